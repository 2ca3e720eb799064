"""The commands in a domU, on a real Xen."""

import pytest

from ..command import running
from ..real_guest import RealGuest, SharedGuest

pytestmark = [pytest.mark.backends("real"), pytest.mark.only("dom0")]


@pytest.fixture
def guest(backend: str, shared_guest: SharedGuest) -> RealGuest:  # noqa: ARG001 - parametrizes
    return shared_guest.lend()


def test_doctor_reports_a_domu(guest: RealGuest) -> None:
    status, output, errors = guest.xenevtchn("doctor")
    assert (status, errors) == (0, ""), (output, errors)
    assert "domain: domU (" in output


def test_a_domu_cannot_list_ports(guest: RealGuest) -> None:
    status, output, errors = guest.xenevtchn("ports")
    assert (status, output) == (1, "")
    assert "Hint: only dom0 can list ports" in errors


def test_a_domu_passes_every_check(guest: RealGuest) -> None:
    status, output, errors = guest.xenevtchn("selftest")
    assert (status, errors) == (0, ""), (output, errors)
    assert output.endswith(" ok, 0 failed\n")


def test_ping_from_a_domu_to_dom0(guest: RealGuest) -> None:
    with running("pong", str(guest.domid), device="/dev/xen/evtchn") as pong:
        port = pong.line().split()[3]
        status, output, errors = guest.xenevtchn("ping", f"0:{port}", "-c", "20", "-i", "0")
        assert (status, errors) == (0, ""), (output, errors)
        assert "20 sent, 20 returned, 0 lost" in output

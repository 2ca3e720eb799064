import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NoReturn

import pytest

from ..real_guest import running_guest
from .machines import Machine, Reference, fake_machine, real_dom0, real_guest, real_machine

# So few that sequences reach the limit.
GUEST_PORTS = 40


@pytest.fixture(scope="module")
def one_vcpu() -> Iterator[None]:
    """Leave dom0 one vCPU: with several, the order of events depends on more than the driver."""
    switches = sorted(Path("/sys/devices/system/cpu").glob("cpu[1-9]*/online"))
    for switch in switches:
        switch.write_text("0")
    yield
    for switch in switches:
        with contextlib.suppress(OSError):
            switch.write_text("1")


@pytest.fixture(scope="module")
def dom0(one_vcpu: None) -> Reference:  # noqa: ARG001
    return real_dom0()


@pytest.fixture(scope="module")
def guest(
    pytestconfig: pytest.Config, unavailable: Callable[[str], NoReturn]
) -> Iterator[Reference]:
    kind, *_ = pytestconfig.getoption("--guests").split(",")
    with running_guest(kind, unavailable, f"max_event_channels = {GUEST_PORTS}") as started:
        yield real_guest(started)


@pytest.fixture
def machine(request: pytest.FixtureRequest, backend: str) -> Callable[[bool], Machine]:
    """Return the machine to compare with: dom0, and on request a guest."""

    def get(with_guest: bool) -> Machine:
        if backend == "fake":
            configuration = {"linux": (6, 12), "abi": "fifo"}
            return fake_machine(configuration, GUEST_PORTS if with_guest else None)
        domains = [request.getfixturevalue("dom0")]
        if with_guest:
            domains.append(request.getfixturevalue("guest"))
        return Machine(domains, real_machine())

    return get

"""The fake by name: one hypervisor for the whole process."""

from collections.abc import Iterator

import pytest

from pyxenevtchn import EventChannel, Virq
from pyxenevtchn.fake import Hypervisor, default, reset_default

from ..concurrency import child


@pytest.fixture(autouse=True)
def _afresh() -> Iterator[None]:
    reset_default()
    yield
    default().check_clean()
    reset_default()


def test_names_of_one_process_meet_in_one_hypervisor() -> None:
    with EventChannel.open("fake:") as backend, EventChannel.open("fake:?domid=3") as frontend:
        port = backend.bind_unbound_port(3)
        assert frontend.bind_interdomain(0, port) in {p.port for p in default().ports(3)}
        assert (backend.name, frontend.name) == ("fake:", "fake:?domid=3")


def test_a_domain_is_created_when_it_is_first_named() -> None:
    with pytest.raises(LookupError):
        default().domain(3)
    with EventChannel.open("fake:?domid=3"), EventChannel.open("fake:?domid=3"):
        assert default().domain(3).domid == 3
    with EventChannel.open("fake:?domid=0") as channel:
        assert channel.name == "fake:"


def test_the_environment_can_name_a_fake(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XENEVTCHN_DEVICE", "fake:?domid=4")
    with EventChannel.open() as channel:
        assert channel.name == "fake:?domid=4"


def test_a_reset_makes_a_new_hypervisor_and_leaves_the_old_one_to_its_handles() -> None:
    with EventChannel.open("fake:") as old:
        old.bind_virq(Virq.DEBUG)
        reset_default()
        with EventChannel.open("fake:") as new:
            new.bind_virq(Virq.DEBUG)
            assert old.wait(0) == new.wait(0) == []


@pytest.mark.parametrize(
    "name",
    [
        "fake:dom0",
        "fake:unix",
        "fake:unix:",
        "fake:unix:?domid=1",
        "fake:unix:/tmp/socket?dom=1",
        "fake:unix:/tmp/socket?domid=32752",
        "fake:?dom=3",
        "fake:?domid",
        "fake:?domid=",
        "fake:?domid=-1",
        "fake:?domid=32752",
        "fake:?domid=two",
        "fake:?domid=1&domid=2",
        "fake:?domid=\N{SUPERSCRIPT TWO}",
    ],
)
def test_unknown_names_are_refused(name: str) -> None:
    with pytest.raises(ValueError, match=r"the names are fake: and fake:.domid=N|0 to 32751"):
        EventChannel.open(name)


def test_a_child_process_has_a_hypervisor_of_its_own() -> None:
    with EventChannel.open("fake:") as channel:
        channel.bind_virq(Virq.DEBUG)
        with child(lambda: EventChannel.open("fake:").bind_virq(Virq.DEBUG)):
            pass


def test_the_hypervisor_of_the_names_can_be_set() -> None:
    xen = Hypervisor(linux=(6, 6))
    reset_default(xen)
    assert default() is xen
    with EventChannel.open("fake:") as channel:
        channel.bind_static(100)


def test_a_name_follows_its_domain_through_a_restore() -> None:
    guest = default().create_domain(5)
    guest.save()
    guest.restore()
    assert guest.domid != 5
    with EventChannel.open("fake:?domid=5") as channel, guest.open() as other:
        channel.bind_virq(Virq.DEBUG)
        with pytest.raises(FileExistsError):
            other.bind_virq(Virq.DEBUG)
    with default().create_domain(5).open() as channel, EventChannel.open("fake:?domid=5") as other:
        channel.bind_virq(Virq.DEBUG)
        with pytest.raises(FileExistsError):
            other.bind_virq(Virq.DEBUG)

"""What saving, restoring or ending a domain does to its event channels and to its peers'."""

from errno import EEXIST, EINVAL

import pytest

from pyxenevtchn import DOMID_SELF, EventChannel, Virq

from ..guests import Event, Guest
from ..limits import TIMEOUT
from ..real_guest import RealGuest
from .events import Pair, expect, expect_nothing, until_gone

pytestmark = pytest.mark.only("dom0")

DOM0 = 0

# Tests that the fakes' guests cannot run, such as those that crash the guest's kernel.
only_real = pytest.mark.backends("real")

BUG = "kernel BUG at drivers/xen/evtchn.c"


def connect(channel: EventChannel, guest: Guest) -> tuple[int, int]:
    """Connect dom0 with the guest; return dom0's port and the guest's."""
    far = guest.bind("bind_unbound_port", DOM0)
    return connect_to(channel, guest, far), far


def connect_to(channel: EventChannel, guest: Guest, far: int) -> int:
    """Connect dom0 to a port that the guest offers; return dom0's port."""
    near = channel.bind_interdomain(guest.domid, far)
    expect(channel, near)  # a connection starts with an event
    channel.unmask(near)
    return near


def check_connection(channel: EventChannel, near: int, guest: Guest, far: int) -> None:
    channel.notify(near)
    assert guest.take() == [far]
    guest.call("notify", far)
    expect(channel, near)
    channel.unmask(near)


def error_of(guest: Guest, method: str, *arguments: object) -> int | None:
    """Make a call in the guest; return its errno, or None if it succeeded."""
    try:
        guest.call(method, *arguments)
    except OSError as error:
        return error.errno
    return None


def assert_disconnected(near: int, *channels: EventChannel, fence: Pair) -> None:
    """Assert that a port's other end is gone, and that no event told the handles."""
    channels[0].notify(near)
    expect_nothing(fence, *channels)


def test_a_pause_leaves_everything_and_what_is_sent_meanwhile_comes_once(
    channel: EventChannel, guest: Guest
) -> None:
    near, far = connect(channel, guest)
    guest.undergo("pause")
    channel.notify(near)
    channel.notify(near)
    guest.undergo("unpause")
    assert guest.take() == [far]
    assert guest.take(0) == []
    check_connection(channel, near, guest, far)


def test_a_checkpoint_leaves_everything(channel: EventChannel, guest: Guest) -> None:
    near, far = connect(channel, guest)
    virq = guest.bind("bind_virq", Virq.ARGO)
    domid = guest.domid
    guest.undergo("checkpoint")
    assert guest.call("check_stale") is False
    assert guest.take(0) == []
    assert guest.domid == domid
    check_connection(channel, near, guest, far)
    guest.call("unbind", virq)


def test_a_restored_guest_has_another_domid_and_its_handle_no_port(
    channel: EventChannel, guest: Guest, fence: Pair
) -> None:
    near, far = connect(channel, guest)
    guest.bind("bind_virq", Virq.ARGO)
    offered = guest.bind("bind_unbound_port", DOM0)
    domid = guest.domid
    guest.undergo("save")
    guest.undergo("restore")
    assert guest.domid != domid
    until_gone(channel, domid)
    # At both ends the driver reports success, and no event comes.
    assert_disconnected(near, channel, fence=fence)
    guest.call("notify", far)
    expect_nothing(fence, channel)
    assert guest.take(0) == []
    with pytest.raises(OSError, match="Invalid argument"):
        channel.bind_interdomain(guest.domid, offered)
    # The library asks Xen, and then refuses every call that would use the handle's ports.
    assert guest.call("check_stale") is True
    for method in ("unbind", "notify", "unmask"):
        assert error_of(guest, method, far) == EEXIST
    guest.call("open")
    guest.bind("bind_virq", Virq.ARGO)
    near, far = connect(channel, guest)
    check_connection(channel, near, guest, far)
    guest.undergo("destroy")


def test_what_was_in_the_ring_survives_and_what_was_masked_is_lost(
    channel: EventChannel, guest: Guest, fence: Pair
) -> None:
    near, far = connect(channel, guest)
    other, masked = connect(channel, guest)
    channel.notify(other)
    assert guest.call("wait", TIMEOUT) == [masked]
    channel.notify(other)
    channel.notify(near)
    expect_nothing(fence, channel)
    # One event is in the guest's ring, the other is pending on a masked port.
    assert guest.call("poll", TIMEOUT)
    guest.undergo("save")
    guest.undergo("restore")
    assert guest.call("wait", 0) == [far]
    guest.call("unmask", [far, masked])
    assert guest.call("wait", 0) == []
    guest.undergo("destroy")


def test_a_bind_that_gets_a_stale_number_shows_that_the_handle_is_stale(
    channel: EventChannel, guest: Guest
) -> None:
    near, far = connect(channel, guest)
    guest.undergo("save")
    guest.undergo("restore")
    # The lowest free number is given first. After the failure the driver has forgotten all ports.
    assert EEXIST in {error_of(guest, "bind_unbound_port", DOM0) for _ in range(far)}
    assert error_of(guest, "notify", far) == EEXIST
    guest.call("open")
    near, far = connect(channel, guest)
    check_connection(channel, near, guest, far)
    guest.undergo("destroy")


@pytest.mark.parametrize("event", ["destroy", "shutdown"])
def test_the_end_of_a_domain_leaves_its_peers_unbound_and_tells_nobody(
    channel: EventChannel, guest: Guest, fence: Pair, event: Event
) -> None:
    near, _ = connect(channel, guest)
    offered = guest.bind("bind_unbound_port", DOM0)
    guest.undergo(event)
    until_gone(channel, guest.domid)
    assert_disconnected(near, channel, fence=fence)
    with pytest.raises(ProcessLookupError):
        channel.bind_interdomain(guest.domid, offered)
    # The port is reserved for the domain that is gone.
    with pytest.raises(OSError, match="Invalid argument") as caught:
        channel.bind_interdomain(DOMID_SELF, near)
    assert caught.value.errno == EINVAL
    channel.unbind(near)


def test_a_crashed_domain_that_is_preserved_stays_connected(
    channel: EventChannel, guest: Guest, fence: Pair
) -> None:
    near, _ = connect(channel, guest)
    offered = guest.bind("bind_unbound_port", DOM0)
    guest.undergo("crash")
    assert channel.domain_exists(guest.domid)
    assert_disconnected(near, channel, fence=fence)
    connected = channel.bind_interdomain(guest.domid, offered)
    expect(channel, connected)
    guest.undergo("destroy")
    until_gone(channel, guest.domid)


@only_real
def test_a_reboot_gives_the_domain_another_domid(channel: EventChannel, guest: RealGuest) -> None:
    near, far = connect(channel, guest)
    domid = guest.domid
    guest.reboot()
    assert guest.domid != domid
    until_gone(channel, domid)
    near, far = connect(channel, guest)
    check_connection(channel, near, guest, far)


@only_real
def test_the_guest_hears_of_a_checkpoint_and_of_a_restore(guest: RealGuest) -> None:
    while guest.call("resumed", 0):
        pass
    resumes: list[list[Event]] = [["checkpoint"], ["save", "restore"]]
    for events in resumes:
        for event in events:
            guest.undergo(event)
        assert guest.call("resumed", TIMEOUT) is True
        assert guest.call("resumed", 0) is False


@only_real
@pytest.mark.parametrize("how", ["unbind", "close"])
def test_letting_a_stale_port_go_is_a_bug_of_the_kernel(guest: RealGuest, how: str) -> None:
    fd = guest.call("raw", "open")
    port = guest.bind("raw", "ioctl", fd, "bind_unbound_port", DOM0)
    guest.undergo("save")
    guest.undergo("restore")
    call = ("ioctl", fd, "unbind", port) if how == "unbind" else ("close", fd)
    guest.crash_by("raw", *call, end=BUG)


@only_real
def test_a_stale_number_that_was_given_again_is_torn_from_its_new_owner(
    channel: EventChannel, guest: RealGuest, fence: Pair
) -> None:
    stale = guest.call("raw", "open")
    port = guest.bind("raw", "ioctl", stale, "bind_unbound_port", DOM0)
    guest.undergo("save")
    guest.undergo("restore")
    # The lowest free numbers are given first.
    taken = [guest.bind("bind_unbound_port", DOM0) for _ in range(port)]
    assert port in taken
    near = connect_to(channel, guest, port)
    guest.call("raw", "ioctl", stale, "unbind", port)
    assert_disconnected(near, channel, fence=fence)
    assert guest.take(0) == []
    guest.undergo("destroy")

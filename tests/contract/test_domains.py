"""Two domains: dom0, where the tests run, and a guest with a process in it."""

import errno

import pytest

from pyxenevtchn import DOMID_SELF, EventChannel, Virq
from pyxenevtchn.privcmd import port_table

from ..guests import Guest
from ..here import Here
from ..limits import TIMEOUT
from .events import Pair, expect, expect_nothing, until_gone

pytestmark = pytest.mark.only("dom0")

DOM0 = 0
NO_SUCH_DOMAIN = 999
BURST = 50


def test_events_go_to_a_guest_that_offers_a_port_and_back(
    channel: EventChannel, guest: Guest
) -> None:
    far = guest.bind("bind_unbound_port", DOM0)
    near = channel.bind_interdomain(guest.domid, far)
    for _ in range(10):
        channel.notify(near)
        assert guest.take() == [far]
        guest.call("notify", far)
        expect(channel, near)
        channel.unmask(near)
    assert guest.call("wait", 0) == []


def test_events_come_from_a_guest_that_connects_and_go_back(
    channel: EventChannel, guest: Guest
) -> None:
    near = channel.bind_unbound_port(guest.domid)
    far = guest.bind("bind_interdomain", DOM0, near)
    assert guest.take() == [far]  # nobody sent it
    for _ in range(10):
        guest.call("notify", far)
        expect(channel, near)
        channel.unmask(near)
        channel.notify(near)
        assert guest.take() == [far]


def test_a_burst_arrives_whole_on_either_side(channel: EventChannel, guest: Guest) -> None:
    near, far = [], []
    for _ in range(BURST):
        far.append(guest.bind("bind_unbound_port", DOM0))
        near.append(channel.bind_interdomain(guest.domid, far[-1]))
    assert channel.notify_many(near) == BURST
    came: set[int] = set()
    while len(came) < BURST:
        ports = guest.take()
        assert ports
        came.update(ports)
    assert came == set(far)
    assert guest.call("notify_many", far) == BURST
    ours: set[int] = set()
    while len(ours) < BURST:
        ours.update(channel.wait(TIMEOUT))
    assert ours == set(near)


def test_a_port_is_for_the_domain_that_it_was_allocated_for(
    channel: EventChannel, guest: Guest, here: Here
) -> None:
    # XSM SILO allocates none for a domain that does not exist.
    others = [] if here.silo else [NO_SUCH_DOMAIN]
    for domid in (*others, guest.domid):
        theirs = guest.bind("bind_unbound_port", domid)
        with pytest.raises(OSError, match="bind_interdomain") as caught:
            channel.bind_interdomain(guest.domid, theirs)
        assert caught.value.errno == errno.EINVAL
    for domid in (*others, DOM0):
        with pytest.raises(OSError, match="Invalid argument") as caught:
            guest.bind("bind_interdomain", DOM0, channel.bind_unbound_port(domid))
        assert caught.value.errno == errno.EINVAL


def test_a_restricted_handle_connects_to_its_guest_alone(
    channel: EventChannel, guest: Guest
) -> None:
    port = channel.bind_unbound_port(DOM0)
    channel.restrict_domid(guest.domid)
    theirs = guest.bind("bind_unbound_port", DOM0)
    assert channel.bind_interdomain(guest.domid, theirs)
    with pytest.raises(PermissionError):
        channel.bind_interdomain(DOMID_SELF, port)


def test_a_guests_virqs_are_its_own(channel: EventChannel, guest: Guest, here: Here) -> None:
    assert channel.bind_virq(Virq.ARGO)
    assert guest.bind("bind_virq", Virq.ARGO)
    if Virq.TIMER in here.held:  # on x86, where the guest's kernel has it, too
        with pytest.raises(FileExistsError):
            guest.bind("bind_virq", Virq.TIMER)
    # Xen before 4.21 lets a guest bind a global VIRQ, but raises it in dom0 only.
    assert guest.bind("bind_virq", Virq.CON_RING)


def test_a_guest_has_1023_ports(guest: Guest) -> None:
    assert guest.call("use_up") == [1023, errno.ENOSPC]


def test_the_ports_of_the_toolstacks_daemons_are_taken(channel: EventChannel, guest: Guest) -> None:
    for port in (1, 2):  # xenstored's and xenconsoled's
        with pytest.raises(OSError, match="bind_interdomain") as caught:
            channel.bind_interdomain(guest.domid, port)
        assert caught.value.errno == errno.EINVAL


@pytest.mark.backends("real")
def test_dom0_can_list_another_domains_ports(channel: EventChannel, guest: Guest) -> None:
    theirs = guest.bind("bind_unbound_port", DOM0)
    near = channel.bind_interdomain(guest.domid, theirs)
    found = {port.port: port for port in port_table(guest.domid)}[theirs]
    assert (found.remote_domid, found.remote_port) == (DOM0, near)


def test_a_process_of_the_guest_that_ends_leaves_a_port_to_connect_to(
    channel: EventChannel, guest: Guest, fence: Pair
) -> None:
    near = channel.bind_unbound_port(guest.domid)
    guest.bind("bind_interdomain", DOM0, near)
    guest.call("open")
    channel.notify(near)  # dropped
    expect_nothing(fence, channel)
    far = guest.bind("bind_interdomain", DOM0, near)
    assert guest.take() == [far]
    guest.call("notify", far)
    expect(channel, near)


def test_a_guest_that_is_destroyed_takes_its_ends_with_it(
    channel: EventChannel, guest: Guest, fence: Pair
) -> None:
    near = channel.bind_unbound_port(guest.domid)
    guest.bind("bind_interdomain", DOM0, near)
    theirs = guest.bind("bind_unbound_port", DOM0)
    assert channel.domain_exists(guest.domid)
    assert guest.call("domain_exists", DOM0) is True
    guest.undergo("destroy")
    channel.notify(near)  # dropped
    expect_nothing(fence, channel)
    until_gone(channel, guest.domid)
    with pytest.raises(ProcessLookupError):
        channel.bind_interdomain(guest.domid, theirs)
    channel.unbind(near)

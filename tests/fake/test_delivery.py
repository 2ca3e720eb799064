"""When events arrive: "manual" delivery, storms and paused domains."""

from typing import Literal

import pytest

from pyxenevtchn import DOMID_SELF
from pyxenevtchn.fake import Hypervisor

from .helpers import connect


def test_with_manual_delivery_events_wait_for_deliver() -> None:
    xen = Hypervisor(delivery="manual")
    with xen.dom0.open() as channel:
        sender = channel.bind_unbound_port(DOMID_SELF)
        receiver = channel.bind_interdomain(DOMID_SELF, sender)
        assert channel.poll(0) == 0
        assert xen.deliver() == 1
        assert channel.wait(0) == [receiver]
        channel.notify(sender)
        channel.unmask(receiver)
        assert channel.wait(0) == []
        assert (xen.deliver(), xen.deliver()) == (1, 0)
        assert channel.wait(0) == [receiver]


def test_deliver_takes_a_domain_and_a_limit() -> None:
    xen = Hypervisor(delivery="manual")
    guest = xen.create_domain()
    with xen.dom0.open() as near, guest.open() as far:
        ends = [connect(far, guest.domid, near, 0) for _ in range(3)]
        assert xen.deliver(guest) == 0
        assert xen.deliver(most=2) == 2
        assert near.wait(0) == [port for _, port in ends[:2]]
        near.notify_many([port for _, port in ends])
        assert xen.deliver(guest, most=1) == 1
        assert far.wait(0) == [ends[0][0]]
        assert xen.deliver() == 3
        assert (len(near.wait(0)), len(far.wait(0))) == (1, 2)
    with pytest.raises(ValueError, match="a domain of this hypervisor"):
        xen.deliver(Hypervisor().dom0)


def test_in_a_storm_unmasking_takes_until_the_next_delivery() -> None:
    xen = Hypervisor(delivery="manual")
    with xen.dom0.open() as channel:
        sender = channel.bind_unbound_port(DOMID_SELF)
        port = channel.bind_interdomain(DOMID_SELF, sender)
        assert xen.deliver(storm=True) == 1
        assert channel.wait(0) == [port]
        channel.unmask(port)
        channel.notify(sender)
        assert next(each for each in xen.ports(0) if each.port == port).masked
        assert xen.deliver() == 1
        assert channel.wait(0) == [port]


@pytest.mark.parametrize(("delivery", "now"), [("immediate", True), ("manual", False)])
def test_events_for_a_paused_domain_come_once_after_unpause(
    delivery: Literal["immediate", "manual"], now: bool
) -> None:
    xen = Hypervisor(delivery=delivery)
    guest = xen.create_domain()
    with xen.dom0.open() as near, guest.open() as far:
        ends = [connect(near, 0, far, guest.domid) for _ in range(3)]
        xen.deliver()
        far.unmask(far.wait(0))
        guest.pause()
        for port, _ in [*reversed(ends), *ends]:
            near.notify(port)
        assert xen.deliver() == 0
        assert far.wait(0) == []
        far.notify(ends[0][1])  # as no real process could now
        assert xen.deliver() == (not now)
        assert near.wait(0) == [ends[0][0]]
        guest.unpause()
        assert xen.deliver() == (0 if now else 3)
        assert far.wait(0) == [port for _, port in reversed(ends)]
    with pytest.raises(ValueError, match="dom0 cannot be paused"):
        xen.dom0.pause()
    guest.destroy()
    for call in (guest.pause, guest.unpause):
        with pytest.raises(ValueError, match="<Domain 1 destroyed> does not run"):
            call()


def test_after_a_pause_the_2_level_abi_delivers_in_the_order_of_ports() -> None:
    xen = Hypervisor(abi="2l")
    guest = xen.create_domain()
    with xen.dom0.open() as near, guest.open() as far:
        ends = [connect(near, 0, far, guest.domid) for _ in range(4)]
        far.unmask(far.wait(0))
        guest.pause()
        near.notify_many([port for port, _ in reversed(ends)])
        guest.unpause()
        assert far.wait(0) == [port for _, port in ends]


def test_shuffled_events_for_a_paused_domain_come_after_unpause() -> None:
    xen = Hypervisor(delivery="shuffled")
    guest = xen.create_domain()
    with xen.dom0.open() as near, guest.open() as far:
        port, theirs = connect(near, 0, far, guest.domid)
        far.unmask(far.wait(0))
        guest.pause()
        near.notify(port)
        assert far.wait(0) == []
        guest.unpause()
        assert far.wait(0) == [theirs]

"""How a contract test waits: an event on a real device is late, never at once."""

import select
from dataclasses import dataclass

from pyxenevtchn import DOMID_SELF, EventChannel

from ..concurrency import wait_until
from ..limits import TIMEOUT


@dataclass(frozen=True)
class Pair:
    """Two connected ports, each on a handle of its own or both on one; nothing is pending."""

    near: EventChannel
    near_port: int
    far: EventChannel
    far_port: int


def connect(near: EventChannel, far: EventChannel) -> Pair:
    """Connect a new port of each handle; take the event that the binder's port starts with."""
    near_port = near.bind_unbound_port(DOMID_SELF)
    far_port = far.bind_interdomain(DOMID_SELF, near_port)
    expect(far, far_port)
    far.unmask(far_port)
    return Pair(near, near_port, far, far_port)


def expect(channel: EventChannel, *ports: int) -> None:
    """Read until all these events have come, in this order, and no other."""
    came: list[int] = []
    while len(came) < len(ports):
        more = channel.wait(TIMEOUT)
        assert more, f"events {ports[len(came) :]} never came"
        came += more
    assert came == list(ports)


def expect_nothing(pair: Pair, *others: EventChannel) -> None:
    """Show that nothing is on its way to the handles: what was sent before a fence is there first.

    The pair, whose far end is unmasked, is the fence.
    """
    pair.near.notify(pair.near_port)
    expect(pair.far, pair.far_port)
    pair.far.unmask(pair.far_port)
    for channel in others:
        assert channel.wait(0) == []


def until_gone(channel: EventChannel, domid: int) -> None:
    """Wait until Xen has no such domain: it frees it a moment after its end."""
    wait_until(lambda: not channel.domain_exists(domid))


def overflow(channel: EventChannel, keeper: EventChannel) -> int:
    """Fill the ring with stale entries until it overflows; return how many events that took.

    A connecting port starts with an event pending; unbound unread, it leaves its entry behind.
    """
    for cycle in range(1, 2000):
        near = keeper.bind_unbound_port(DOMID_SELF)
        far = channel.bind_interdomain(DOMID_SELF, near)
        assert channel.poll(TIMEOUT)
        channel.unbind(far)
        keeper.unbind(near)
        if channel.poll(0) & select.POLLERR:
            return cycle
    raise AssertionError("2000 stale entries fit into the ring")

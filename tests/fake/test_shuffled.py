"""Shuffled delivery: all that several vCPUs could do, and nothing else."""

import errno
import select
from collections.abc import Iterator
from contextlib import ExitStack, closing

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pyxenevtchn import DOMID_SELF, EventChannel, Request
from pyxenevtchn.abi import pack_ports, unpack_ports
from pyxenevtchn.fake import FakeDevice, Hypervisor
from pyxenevtchn.fake.model.configuration import Abi

from .helpers import refused


class Pair:
    """Two handles of dom0: the first sends events to the second, on this number of ports."""

    def __init__(self, seed: int, ports: int, abi: Abi = "fifo") -> None:
        self.xen = Hypervisor(delivery="shuffled", seed=seed, abi=abi)
        self.sender = self.xen.dom0.device()
        self.receiver = self.xen.dom0.device()
        self.senders = [
            self.sender.ioctl(Request.BIND_UNBOUND_PORT, DOMID_SELF) for _ in range(ports)
        ]
        self.ports = [
            self.receiver.ioctl(Request.BIND_INTERDOMAIN, DOMID_SELF, each) for each in self.senders
        ]
        while self.readable():
            self.receiver.write(pack_ports(self.read()))

    def send(self) -> None:
        """Send an event on every port, in order."""
        for port in self.senders:
            self.sender.ioctl(Request.NOTIFY, port)

    def readable(self) -> bool:
        return readable(self.receiver)

    def read(self, ports: int = 1024) -> list[int]:
        return unpack_ports(self.receiver.read(4 * ports))

    def close(self) -> None:
        self.sender.close()
        self.receiver.close()
        self.xen.check_clean()


def readable(device: FakeDevice) -> bool:
    return bool(select.select([device], [], [], 0)[0])


def reads(seed: int, sent: int = 3) -> list[list[int]]:
    """Send this number of events and read until there are no more; return those of each read."""
    with closing(Pair(seed, sent)) as pair:
        pair.send()
        came = []
        while pair.readable():
            came.append([pair.ports.index(port) for port in pair.read()])
        return came


def test_the_same_seed_gives_the_same_order_and_another_one_does_not() -> None:
    assert reads(7, sent=20) == reads(7, sent=20)
    assert reads(7, sent=20) != reads(8, sent=20)
    assert "seed=7" in repr(Hypervisor(delivery="shuffled", seed=7))
    assert "seed=" in repr(Hypervisor(delivery="shuffled"))
    assert "seed=" not in repr(Hypervisor())


def test_events_come_in_every_order_together_and_apart() -> None:
    seen = [reads(seed) for seed in range(300)]
    orders = {tuple(event for read in each for event in read) for each in seen}
    assert len(orders) == 6
    assert {tuple(map(len, each)) for each in seen} == {(1, 1, 1), (1, 2), (2, 1), (3,)}


@pytest.mark.parametrize(("abi", "expected"), [("fifo", {True, False}), ("2l", {True})])
def test_a_port_that_the_fifo_abi_has_queued_is_not_allocated_again(
    abi: Abi, expected: set[bool]
) -> None:
    seen = set()
    for seed in range(30):
        with closing(Pair(seed, 3, abi)) as pair:
            pair.send()
            pair.receiver.ioctl(Request.UNBIND, pair.ports[0])
            seen.add(pair.sender.ioctl(Request.BIND_UNBOUND_PORT, 0) == pair.ports[0])
    assert seen == expected


def test_reset_drops_events_that_have_come_and_not_later_ones() -> None:
    left = set()
    for seed in range(30):
        with closing(Pair(seed, 2)) as pair:
            pair.send()
            pair.receiver.ioctl(Request.RESET)
            left.add(len(pair.read()) if pair.readable() else 0)
    assert left == {0, 1}


def test_a_wait_never_misses_an_event() -> None:
    for seed in range(20):
        with ExitStack() as stack:
            xen = Hypervisor(delivery="shuffled", seed=seed)
            near, far = (stack.enter_context(xen.dom0.open()) for _ in range(2))
            senders = [near.bind_unbound_port(DOMID_SELF) for _ in range(5)]
            ports = {far.bind_interdomain(DOMID_SELF, sender) for sender in senders}
            came = set(take(far, 5))
            assert came == ports
            far.unmask(came)
            near.notify_many(senders)
            assert set(take(far, 5)) == ports
            assert far.wait(0) == []


def take(channel: EventChannel, count: int) -> Iterator[int]:
    """Take this number of events, which must not need a wait."""
    while count > 0:
        ports = channel.wait(0)
        assert ports
        count -= len(ports)
        yield from ports


def test_deliver_works_with_shuffled_events_too() -> None:
    with closing(Pair(1, 4)) as pair:
        pair.send()
        delivered = [pair.xen.deliver(most=3), pair.xen.deliver(pair.xen.dom0), pair.xen.deliver()]
        assert delivered == [3, 1, 0]
        assert sorted(pair.read()) == pair.ports


def test_handles_that_are_closed_leave_nothing() -> None:
    pair = Pair(1, 4)
    pair.send()
    pair.close()
    with pair.xen.dom0.open() as channel:
        assert channel.bind_unbound_port(0) == min(pair.senders)


def test_a_domain_that_is_destroyed_leaves_nothing() -> None:
    xen = Hypervisor(delivery="shuffled")
    guest = xen.create_domain()
    with guest.open() as near, guest.open() as far:
        far.bind_interdomain(DOMID_SELF, near.bind_unbound_port(DOMID_SELF))
        guest.destroy()
        assert far.poll(0) == select.POLLERR
    assert xen.deliver() == 0


STEPS = st.lists(
    st.tuples(st.sampled_from(["notify", "notify", "read", "unmask"]), st.integers(0, 3)),
    max_size=40,
)


@settings(max_examples=300, deadline=None)
@given(st.integers(0, 2**32), STEPS)
def test_a_port_has_one_event_at_a_time_and_what_was_sent_comes(
    seed: int, steps: list[tuple[str, int]]
) -> None:
    with closing(Pair(seed, 4)) as pair:
        # By port: whether an event was sent since the last one, and must come; how many may come.
        sent, possible = [False] * 4, [0] * 4
        masked = [False] * 4
        for what, index in steps:
            if what == "notify":
                pair.sender.ioctl(Request.NOTIFY, pair.senders[index])
                sent[index] = True
                possible[index] += 1
            elif what == "unmask" and masked[index]:
                pair.receiver.write(pack_ports(pair.ports[index]))
                masked[index] = False
            elif what == "read" and pair.readable():
                came = [pair.ports.index(port) for port in pair.read(index + 1)]
                assert 0 < len(came) == len(set(came)) <= index + 1
                for each in came:
                    assert possible[each]
                    assert not masked[each]
                    masked[each] = True
                    # Two that were sent have merged, or the second is pending now.
                    sent[each] = False
                    possible[each] -= 1
            elif what == "read":
                with refused(errno.EAGAIN):
                    pair.read()
            if any(sure and not mask for sure, mask in zip(sent, masked, strict=True)):
                assert pair.readable()


@pytest.mark.parametrize("abi", ["fifo", "2l"])
def test_each_arrival_in_an_empty_ring_is_an_edge(abi: Abi) -> None:
    with closing(Pair(3, 6, abi)) as pair, select.epoll() as epoll:
        epoll.register(pair.receiver, select.EPOLLIN | select.EPOLLET)
        pair.send()
        taken = 0
        while taken < 6:
            # The events that the last read left have come since: a new edge.
            assert epoll.poll(0) == [(pair.receiver.fileno(), select.EPOLLIN)]
            taken += len(pair.read())
        assert epoll.poll(0) == []

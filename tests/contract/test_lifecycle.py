"""Opening, closing, sharing and forking handles."""

import contextlib
import functools
import gc
import os
import queue
import select
import socket
import threading
from array import array
from collections import Counter
from collections.abc import Callable

import pytest

from pyxenevtchn import DOMID_SELF, ChannelClosed, EventChannel, RingOverflow, Virq

from ..concurrency import child, threads, until_asleep
from ..descriptors import descriptors
from ..limits import TIMEOUT
from .conftest import OpenChannel, OpenDevice
from .events import Pair, connect, expect, overflow


def test_close_is_idempotent_and_leaves_nothing_open(open_device: OpenDevice) -> None:
    before = descriptors()
    channel = EventChannel(open_device())
    channel.bind_unbound_port(DOMID_SELF)
    channel.poll(0)
    was_closed = channel.closed
    channel.close()
    channel.close()
    assert (was_closed, channel.closed) == (False, True)
    del channel  # until then it keeps its descriptor's number from being used again
    assert descriptors() == before


@pytest.mark.parametrize(
    "call",
    [
        lambda channel: channel.read(),
        lambda channel: channel.read_into(array("I", bytes(64))),
        lambda channel: channel.notify(1),
        lambda channel: channel.notify_many([1]),
        lambda channel: channel.unbind(1),
        lambda channel: channel.restrict_domid(0),
        lambda channel: channel.wait(0),
    ],
    ids=["read", "read_into", "notify", "notify_many", "unbind", "restrict_domid", "wait"],
)
def test_a_failed_call_leaves_nothing_to_the_garbage_collector(
    channel: EventChannel, call: Callable[[EventChannel], object]
) -> None:
    # Garbage with frames in it would keep a caller's loop over events alive, and its port masked.
    gc.collect()
    gc.disable()
    try:
        with contextlib.suppress(OSError):
            call(channel)
        assert gc.collect() == 0
    finally:
        gc.enable()


@pytest.mark.parametrize(
    "call",
    [
        lambda channel: channel.fileno(),
        lambda channel: channel.bind_virq(Virq.ARGO),
        lambda channel: channel.bind_unbound_port(0),
        lambda channel: channel.bind_interdomain(0, 1),
        lambda channel: channel.bind_static(1),
        lambda channel: channel.unbind(1),
        lambda channel: channel.notify(1),
        lambda channel: channel.reset(),
        lambda channel: channel.restrict_domid(1),
        lambda channel: channel.read(),
        lambda channel: channel.unmask(1),
        lambda channel: channel.poll(0),
        lambda channel: channel.wait(0),
        lambda channel: channel.check_stale(),
    ],
)
def test_a_closed_handle_refuses_every_call(
    channel: EventChannel, call: Callable[[EventChannel], object]
) -> None:
    channel.close()
    with pytest.raises(ChannelClosed, match="closed"):
        call(channel)
    assert "closed" in repr(channel)


def test_a_handle_that_is_garbage_collected_warns_and_frees_its_ports(
    open_device: OpenDevice, open_channel: OpenChannel
) -> None:
    with pytest.warns(ResourceWarning, match="never closed"):
        EventChannel(open_device()).bind_virq(Virq.ARGO)
    assert open_channel().bind_virq(Virq.ARGO)


@pytest.mark.parametrize("nonblocking", [True, False])
@pytest.mark.parametrize(
    "wait",
    [lambda channel: channel.wait(), lambda channel: channel.poll(TIMEOUT)],
    ids=["wait", "poll"],
)
def test_close_wakes_the_waiters(
    open_device: OpenDevice, nonblocking: bool, wait: Callable[[EventChannel], object]
) -> None:
    assert_close_wakes(EventChannel(open_device(nonblocking=nonblocking)), wait)


def test_close_wakes_a_read_that_blocks(open_device: OpenDevice) -> None:
    assert_close_wakes(EventChannel(open_device(nonblocking=False)), EventChannel.read)


def assert_close_wakes(channel: EventChannel, wait: Callable[[EventChannel], object]) -> None:
    channel.bind_unbound_port(DOMID_SELF)

    def until_closed() -> None:
        with pytest.raises(ChannelClosed):
            wait(channel)

    with threads(*[until_closed] * 3) as waiters:
        for waiter in waiters:
            until_asleep(waiter)
        channel.close()


def test_close_during_calls_hits_no_other_descriptor(open_device: OpenDevice) -> None:
    """Threads that call while another one closes get ChannelClosed, and use no other descriptor."""

    def hammer(channel: EventChannel, port: int, under_way: threading.Barrier) -> None:
        under_way.wait(TIMEOUT)
        with contextlib.suppress(ChannelClosed):
            while True:
                channel.notify(port)
                channel.unmask(port)
                channel.poll(0)

    for _ in range(10):
        channel = EventChannel(open_device())
        port = channel.bind_unbound_port(DOMID_SELF)
        under_way = threading.Barrier(4)
        with contextlib.ExitStack() as stack:
            with threads(*[functools.partial(hammer, channel, port, under_way)] * 3):
                under_way.wait(TIMEOUT)
                channel.close()
                # These sockets get the descriptor numbers that are free now. On a socket a notify
                # would fail, and what an unmask writes would come out at the other end.
                pairs = [socket.socketpair() for _ in range(5)]
                strangers = [stack.enter_context(end) for pair in pairs for end in pair]
            assert select.select(strangers, [], [], 0)[0] == []


def test_a_duplicate_shares_ring_and_ports(pair: Pair) -> None:
    with EventChannel.from_fd(os.dup(pair.far.fileno())) as twin:
        assert dict(twin.bindings) == {}
        pair.near.notify(pair.near_port)
        assert twin.poll(TIMEOUT) == select.POLLIN
        assert pair.far.poll(TIMEOUT) == select.POLLIN
        expect(twin, pair.far_port)
        assert pair.far.wait(0) == []
        twin.unmask(pair.far_port)
        twin.notify(pair.far_port)
        expect(pair.near, pair.near_port)
        # Closing the first of the two frees nothing.
        pair.far.close()
        pair.near.notify(pair.near_port)
        expect(twin, pair.far_port)


@pytest.mark.backends("preload", "real")
def test_an_overflow_is_still_there_when_only_a_duplicate_is_open(
    channel: EventChannel, open_channel: OpenChannel
) -> None:
    fd = os.dup(channel.fileno())
    overflow(channel, open_channel())
    channel.close()
    with EventChannel.from_fd(fd) as twin:
        with pytest.raises(RingOverflow):
            twin.read()
        assert twin.poll(0) == select.POLLERR
        twin.recover()
        assert twin.poll(0) == 0


def test_the_last_duplicate_to_close_lets_the_ports_go(
    channel: EventChannel, open_channel: OpenChannel
) -> None:
    twin = EventChannel.from_fd(os.dup(channel.fileno()))
    channel.bind_virq(Virq.ARGO)
    channel.close()
    other = open_channel()
    with pytest.raises(FileExistsError):
        other.bind_virq(Virq.ARGO)
    twin.close()
    assert other.bind_virq(Virq.ARGO)


def test_an_adopted_handle_can_be_told_its_bindings(pair: Pair) -> None:
    with EventChannel.from_fd(os.dup(pair.far.fileno()), bindings=pair.far.bindings) as twin:
        assert twin.bindings == pair.far.bindings
        assert twin.recover() == {pair.far_port}


def test_two_threads_that_read_share_the_events(open_channel: OpenChannel) -> None:
    near, far = open_channel(), open_channel()
    pairs = [connect(near, far) for _ in range(40)]
    came: queue.Queue[int] = queue.Queue()

    def read() -> None:
        with contextlib.suppress(ChannelClosed):
            while True:
                ports = far.wait()
                far.unmask(ports)
                for port in ports:
                    came.put(port)

    with threads(*[read] * 3):
        for _ in range(3):
            for pair in pairs:
                near.notify(pair.near_port)
            ports = [came.get(timeout=TIMEOUT) for _ in pairs]
            assert sorted(ports) == [pair.far_port for pair in pairs]
        far.close()
    assert came.empty()


def test_a_borrowed_descriptor_stays_open(channel: EventChannel) -> None:
    with EventChannel.from_fd(channel.fileno(), closefd=False) as borrower:
        port = borrower.bind_unbound_port(DOMID_SELF)
    channel.notify(port)


def test_a_child_process_may_only_close(pair: Pair) -> None:
    def close() -> None:
        with pytest.raises(RuntimeError, match="belongs to the parent"):
            pair.far.notify(pair.far_port)
        with pytest.raises(RuntimeError, match="belongs to the parent"):
            pair.far.check_stale()
        assert pair.far.fileno() >= 0
        pair.far.close()
        pair.far.close()
        pair.near.close()

    with child(close):
        pass
    # The parent's handles and their connection are as they were.
    pair.near.notify(pair.near_port)
    expect(pair.far, pair.far_port)


# A fake in this process would be copied into the child.
@pytest.mark.backends("server", "preload", "real")
def test_a_child_process_keeps_the_ports_of_what_it_inherited(
    open_device: OpenDevice, open_channel: OpenChannel
) -> None:
    waits_in, ours = os.pipe()

    def wait_for_the_end() -> None:
        os.close(ours)
        os.read(waits_in, 1)

    channel, other = EventChannel(open_device()), open_channel()
    channel.bind_virq(Virq.ARGO)
    with child(wait_for_the_end):
        channel.close()
        with pytest.raises(FileExistsError):
            other.bind_virq(Virq.ARGO)
        os.close(ours)
    os.close(waits_in)
    assert other.bind_virq(Virq.ARGO)


def test_descriptors_close_on_exec(channel: EventChannel) -> None:
    assert not os.get_inheritable(channel.fileno())


def test_several_threads_bind_notify_and_unmask_while_one_reads(
    open_channel: OpenChannel,
) -> None:
    channel = open_channel()
    rounds = 12  # an unmask before the read adds an entry; so few entries fit into the ring
    came: Counter[int] = Counter()

    def send() -> None:
        near = channel.bind_unbound_port(DOMID_SELF)
        far = channel.bind_interdomain(DOMID_SELF, near)
        ready.wait(TIMEOUT)
        for _ in range(rounds):
            channel.notify(near)
            channel.unmask(far)

    ready = threading.Barrier(4)
    with threads(*[send] * 4) as senders:
        while any(sender.is_alive() for sender in senders) or channel.poll(0):
            for port in channel.wait(0.05):
                came[port] += 1
                channel.unmask(port)
    assert len(came) == 4
    assert all(1 <= number <= rounds + 1 for number in came.values())
    assert connect(channel, channel).far is channel

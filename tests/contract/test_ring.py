"""The ring: reads of every size, its growth, stale entries, overflow and reset."""

import contextlib
import errno
import os
import select
from collections.abc import Iterator

import pytest

from pyxenevtchn import DOMID_SELF, Device, EventChannel, Request, RingOverflow

from ..limits import TIMEOUT
from .conftest import OpenDevice
from .events import Pair, connect, expect, expect_nothing, overflow
from .raw import raw_read, raw_write


@pytest.fixture
def device(open_device: OpenDevice) -> Iterator[Device]:
    """A device without an EventChannel around it: the driver's file operations."""
    with contextlib.closing(open_device()) as device:
        yield device


def test_an_empty_ring_gives_nothing(channel: EventChannel) -> None:
    with pytest.raises(BlockingIOError, match="read"):
        channel.read()
    channel.bind_unbound_port(DOMID_SELF)
    with pytest.raises(BlockingIOError):
        channel.read()
    assert channel.wait(0) == []


def test_reads_take_at_most_what_they_ask_for_oldest_first(channel: EventChannel) -> None:
    pairs = [connect(channel, channel) for _ in range(5)]
    for pair in pairs:
        channel.notify(pair.near_port)
    came: list[int] = []
    while len(came) < 5:
        assert channel.poll(TIMEOUT)
        some = channel.read(2)
        assert 1 <= len(some) <= 2
        came += some
    assert came == [pair.far_port for pair in pairs]
    assert channel.wait(0) == []


def test_a_read_of_no_port_returns_at_once(channel: EventChannel, pair: Pair) -> None:
    assert channel.read(0) == []
    pair.near.notify(pair.near_port)
    assert pair.far.poll(TIMEOUT)
    assert pair.far.read(0) == []
    expect(pair.far, pair.far_port)


def test_reads_and_writes_are_cut_to_whole_ports_and_one_page(device: Device) -> None:
    for size in (0, 1, 3):
        assert raw_read(device, size) == b""
        assert raw_write(device, memoryview(bytes(size))) == 0
    for size in (4, 5, 7):
        with pytest.raises(BlockingIOError):
            raw_read(device, size)
        assert raw_write(device, memoryview(bytes(size))) == 4
    assert raw_write(device, memoryview(bytes(5000))) == 4096


def test_a_read_gives_one_page_at_most(channel: EventChannel, fence: Pair) -> None:
    pairs = [connect(channel, channel) for _ in range(1030)]
    for pair in pairs:
        channel.notify(pair.near_port)
    expect_nothing(fence)
    first = channel.read(4000)
    assert first == [pair.far_port for pair in pairs[:1024]]
    expect(channel, *(pair.far_port for pair in pairs[1024:]))


def test_the_ring_grows_with_the_ports_and_keeps_what_it_holds(channel: EventChannel) -> None:
    early = [connect(channel, channel) for _ in range(30)]
    for pair in early:
        channel.notify(pair.near_port)
    assert channel.poll(TIMEOUT)
    # The first ring is for 64 ports: these make it grow twice, with the events still in it.
    late = [channel.bind_unbound_port(DOMID_SELF) for _ in range(200)]
    expect(channel, *(pair.far_port for pair in early))
    assert len(set(late)) == 200


def test_a_port_unbound_before_it_was_read_is_read_all_the_same(pair: Pair) -> None:
    pair.near.notify(pair.near_port)
    assert pair.far.poll(TIMEOUT)
    pair.far.unbind(pair.far_port)
    with EventChannel.from_fd(os.dup(pair.far.fileno())) as driver:
        expect(driver, pair.far_port)


def test_an_event_outlives_its_sender(pair: Pair) -> None:
    pair.near.notify(pair.near_port)
    assert pair.far.poll(TIMEOUT)
    pair.near.close()
    expect(pair.far, pair.far_port)


def test_stale_entries_overflow_the_ring(backend: str, channel: EventChannel, pair: Pair) -> None:
    cycles = overflow(channel, pair.near)
    # On a real device a port may be unbound before its event comes and adds an entry.
    assert cycles == 65 or (backend == "real" and cycles > 65)
    assert channel.poll(0) == select.POLLERR
    for _ in range(2):
        with pytest.raises(RingOverflow) as caught:
            channel.read()
        assert caught.value.errno == errno.EFBIG
        assert "reset()" in caught.value.__notes__[0]
    with pytest.raises(RingOverflow):
        channel.wait(TIMEOUT)
    assert channel.read(0) == []


def test_only_reset_ends_an_overflow(channel: EventChannel, pair: Pair) -> None:
    overflow(channel, pair.near)
    channel.unmask(channel.bind_unbound_port(DOMID_SELF))
    assert channel.poll(0) == select.POLLERR
    channel.reset()
    assert channel.poll(0) == 0
    assert channel.wait(0) == []
    again = connect(channel, channel)
    channel.notify(again.near_port)
    expect(channel, again.far_port)


def test_reset_empties_the_ring_and_leaves_the_ports_masked(pair: Pair, fence: Pair) -> None:
    pair.near.notify(pair.near_port)
    assert pair.far.poll(TIMEOUT)
    pair.far.reset()
    assert pair.far.wait(0) == []
    pair.near.notify(pair.near_port)
    expect_nothing(fence, pair.far)
    pair.far.unmask(pair.far_port)
    expect(pair.far, pair.far_port)


def test_an_event_that_came_too_late_for_the_ring_comes_after_reset_and_unmask(
    channel: EventChannel, open_device: OpenDevice
) -> None:
    with EventChannel(open_device()) as sender:
        pair = connect(sender, channel)
        overflow(channel, sender)
        sender.notify(pair.near_port)  # dropped: the ring is full; the port is masked now
        fence = connect(sender, sender)
        expect_nothing(fence)
        sender.notify(pair.near_port)  # Xen keeps this event pending
        channel.reset()
        channel.unmask(pair.far_port)
        expect(channel, pair.far_port)


def test_a_handle_that_blocks_waits_for_its_events(open_device: OpenDevice) -> None:
    with EventChannel(open_device(nonblocking=False)) as channel:
        pair = connect(channel, channel)
        channel.notify(pair.near_port)
        assert channel.read() == [pair.far_port]
        assert channel.wait(0) == []


def test_a_device_that_blocks_reads_what_is_there(open_device: OpenDevice) -> None:
    with contextlib.closing(open_device(nonblocking=False)) as device:
        near = device.ioctl(Request.BIND_UNBOUND_PORT, DOMID_SELF)
        far = device.ioctl(Request.BIND_INTERDOMAIN, DOMID_SELF, near)
        # The read itself waits for the event that a connection starts with.
        assert memoryview(raw_read(device, 4096)).cast("I").tolist() == [far]

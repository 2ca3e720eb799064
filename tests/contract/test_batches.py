"""Many ports in one call: notify_many, unmask of buffers, read_into."""

import errno
from array import array
from collections.abc import Callable, Iterable

import pytest

from pyxenevtchn import DOMID_SELF, ChannelClosed, EventChannel, PartialNotify, RingOverflow, Virq

from ..limits import TIMEOUT
from .conftest import OpenDevice
from .events import Pair, connect, expect, overflow

SHAPES: dict[str, Callable[[list[int]], Iterable[int]]] = {
    "list": list,
    "tuple": tuple,
    "iterator": iter,
    "words": lambda ports: array("I", ports),
    "view": lambda ports: memoryview(array("I", ports)),
    "every other": lambda ports: memoryview(array("I", [n for p in ports for n in (p, 0)]))[::2],
    "longs": lambda ports: array("q", ports),
}


@pytest.mark.parametrize("shape", SHAPES)
def test_ports_in_any_iterable_are_notified_and_unmasked(pairs: list[Pair], shape: str) -> None:
    near, far = pairs[0].near, pairs[0].far
    ports = [pair.far_port for pair in pairs]
    for _ in range(2):
        assert near.notify_many(SHAPES[shape]([pair.near_port for pair in pairs])) == 5
        expect(far, *ports)
        assert far.unmask(SHAPES[shape](ports)) == 5


def test_a_range_of_ports(channel: EventChannel) -> None:
    ports = [channel.bind_unbound_port(DOMID_SELF) for _ in range(4)]
    first = min(ports)
    if ports == list(range(first, first + 4)):
        assert channel.notify_many(range(first, first + 4)) == 4
    assert channel.notify_many([]) == 0


def test_it_stops_at_the_first_port_that_fails_and_names_it(pairs: list[Pair]) -> None:
    near, far = pairs[0].near, pairs[0].far
    ports = [pair.near_port for pair in pairs]
    with pytest.raises(PartialNotify, match=r"notify\(port=0\)") as caught:
        near.notify_many([*ports[:3], 0, *ports[3:]])
    assert caught.value.errno == errno.ENOTCONN
    assert (caught.value.port, caught.value.sent) == (0, 3)
    assert "after 3 ports were notified" in str(caught.value)
    assert caught.value.__notes__
    expect(far, *(pair.far_port for pair in pairs[:3]))
    assert far.wait(0) == []


def test_a_virqs_port_is_refused_before_any_event_is_sent(pairs: list[Pair]) -> None:
    near, far = pairs[0].near, pairs[0].far
    virq = near.bind_virq(Virq.ARGO)
    with pytest.raises(ValueError, match=f"port {virq} is bound to VIRQ ARGO"):
        near.notify_many([pairs[0].near_port, virq])
    assert far.wait(0) == []
    near.unbind(virq)
    assert near.notify_many([pairs[0].near_port]) == 1


@pytest.mark.parametrize("ports", [b"\1\0\0\0", bytearray(4), "1", array("B", [1]), [1, -1], 5])
def test_anything_but_ports_is_refused(channel: EventChannel, ports: object) -> None:
    with pytest.raises((TypeError, ValueError, PartialNotify)):
        channel.notify_many(ports)  # type: ignore[arg-type]


def test_a_closed_handle_refuses_both(channel: EventChannel) -> None:
    channel.close()
    with pytest.raises(ChannelClosed):
        channel.notify_many([1])
    with pytest.raises(ChannelClosed):
        channel.read_into(array("I", [0]))


def test_events_are_read_into_a_buffer(pairs: list[Pair]) -> None:
    near, far = pairs[0].near, pairs[0].far
    buffer = array("I", [7] * 3)
    with pytest.raises(BlockingIOError):
        far.read_into(buffer)
    near.notify_many([pair.near_port for pair in pairs])
    came: list[int] = []
    while len(came) < 5:
        assert far.poll(TIMEOUT)
        count = far.read_into(buffer)
        assert 1 <= count <= 3
        came += buffer[:count]
    assert came == [pair.far_port for pair in pairs]
    assert far.unmask(buffer) == 3


def test_a_loops_leftovers_are_read_into_a_buffer_first(pairs: list[Pair]) -> None:
    near, far = pairs[0].near, pairs[0].far
    ports = [pair.far_port for pair in pairs]
    near.notify_many([pair.near_port for pair in pairs])
    came: list[int] = []
    for port in far.events(TIMEOUT):
        came.append(port)
        break
    buffer = array("I", bytes(4 * 100))
    while len(came) < 5:
        assert far.poll(TIMEOUT)
        came += buffer[: far.read_into(buffer)]
    assert came == ports


def test_a_handle_that_blocks_reads_into_a_buffer_without_waiting(open_device: OpenDevice) -> None:
    with EventChannel(open_device(nonblocking=False)) as channel:
        buffer = array("I", [0])
        with pytest.raises(BlockingIOError):
            channel.read_into(buffer)
        pair = connect(channel, channel)
        channel.notify(pair.near_port)
        assert channel.poll(TIMEOUT)
        assert channel.read_into(buffer) == 1
        assert buffer[0] == pair.far_port


def test_an_empty_buffer_takes_nothing(pair: Pair) -> None:
    pair.near.notify(pair.near_port)
    assert pair.far.poll(TIMEOUT)
    assert pair.far.read_into(array("I")) == 0
    expect(pair.far, pair.far_port)


def test_read_into_raises_ring_overflow(channel: EventChannel, pair: Pair) -> None:
    overflow(pair.far, channel)
    with pytest.raises(RingOverflow):
        pair.far.read_into(array("I", [0]))


@pytest.mark.parametrize(
    "buffer",
    [b"\0\0\0\0", bytearray(4), array("H", [0, 0]), memoryview(array("I", [0])).toreadonly()],
)
def test_a_buffer_of_the_wrong_kind_is_refused(channel: EventChannel, buffer: bytearray) -> None:
    with pytest.raises(TypeError, match="read_into needs"):
        channel.read_into(buffer)

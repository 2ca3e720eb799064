"""The loop over events, and recovery from overflow."""

import os
import select

import pytest

from pyxenevtchn import DOMID_SELF, ChannelClosed, EventChannel, RingOverflow

from ..concurrency import threads, until_asleep
from ..limits import TIMEOUT
from .events import Pair, connect, expect, expect_nothing, overflow


def send(pairs: list[Pair]) -> list[int]:
    """Notify each pair and wait until all events have arrived; return their ports."""
    for pair in pairs:
        pair.near.notify(pair.near_port)
    fence = connect(pairs[0].near, pairs[0].near)
    expect_nothing(fence)
    return [pair.far_port for pair in pairs]


def assert_unmasked(pairs: list[Pair]) -> None:
    """Check that an event comes on each port."""
    far = pairs[0].far
    for pair in pairs:
        pair.near.notify(pair.near_port)
        expect(far, pair.far_port)
        far.unmask(pair.far_port)


def test_the_loop_gives_every_event_once_and_unmasks_it(pairs: list[Pair]) -> None:
    far = pairs[0].far
    for _ in range(3):
        ports = send(pairs)
        assert list(far.events(timeout=0)) == ports
    assert_unmasked(pairs)


def test_the_loop_waits_for_events_until_the_timeout(pair: Pair) -> None:
    came: list[int] = []
    with threads(lambda: came.append(next(pair.far.events(timeout=TIMEOUT)))) as (waiter,):
        until_asleep(waiter)
        pair.near.notify(pair.near_port)
    assert came == [pair.far_port]
    assert list(pair.far.events(timeout=0.01)) == []


def test_the_port_is_masked_while_the_body_runs(pair: Pair, fence: Pair) -> None:
    pair.near.notify(pair.near_port)
    for port in pair.far.events(timeout=TIMEOUT):
        assert port == pair.far_port
        pair.near.notify(pair.near_port)
        expect_nothing(fence, pair.far)
        break
    expect(pair.far, pair.far_port)


def test_break_unmasks_and_keeps_the_rest_of_the_batch(pairs: list[Pair]) -> None:
    far, ports = pairs[0].far, send(pairs)
    for port in far.events():
        if port == ports[1]:
            break
    assert far.poll(0) == select.POLLIN
    assert far.read(1) == [ports[2]]
    assert far.wait(0) == ports[3:]
    assert far.poll(0) == 0
    far.unmask(ports[2:])
    assert_unmasked(pairs)


def test_an_exception_in_the_body_loses_nothing(pairs: list[Pair]) -> None:
    far, ports = pairs[0].far, send(pairs)

    def work() -> None:
        for port in far.events():
            raise LookupError(port)

    with pytest.raises(LookupError, match=str(ports[0])):
        work()
    assert list(far.events(timeout=0)) == ports[1:]
    assert_unmasked(pairs)


def test_closing_the_loop_unmasks_its_last_port(pair: Pair) -> None:
    pair.near.notify(pair.near_port)
    loop = pair.far.events()
    assert next(loop) == pair.far_port
    loop.close()
    pair.near.notify(pair.near_port)
    expect(pair.far, pair.far_port)


def test_two_loops_share_the_events(pairs: list[Pair]) -> None:
    far, ports = pairs[0].far, send(pairs)
    one, two = far.events(timeout=0), far.events(timeout=0)
    came = [next(one), next(two), next(one), next(two)]
    assert came == ports[:4]
    assert [*one, *two] == ports[4:]
    assert_unmasked(pairs)


def test_events_of_a_port_unbound_since_are_left_out(pairs: list[Pair]) -> None:
    far, ports = pairs[0].far, send(pairs)
    far.unbind(ports[0])
    seen = []
    for port in far.events(timeout=0):
        seen.append(port)
        if port == ports[2]:
            far.unbind(ports[3])
    assert seen == [ports[1], ports[2], ports[4]]


def test_every_reader_leaves_out_events_of_a_port_unbound_since(pairs: list[Pair]) -> None:
    far, ports = pairs[0].far, send(pairs)
    far.unbind(ports[0])
    assert far.read(1) == ports[1:2]
    far.unbind(ports[2])
    assert far.wait(TIMEOUT) == ports[3:]


def test_an_adopted_handle_leaves_nothing_out(pairs: list[Pair]) -> None:
    # Another handle of the file may have bound the port again.
    far, ports = pairs[0].far, send(pairs)
    with EventChannel.from_fd(os.dup(far.fileno()), bindings=far.bindings) as twin:
        twin.unbind(ports[0])
        assert twin.wait(TIMEOUT) == ports


def test_a_port_bound_again_is_not_stale(pair: Pair) -> None:
    pair.far.unbind(pair.far_port)
    assert pair.far.bind_interdomain(DOMID_SELF, pair.near_port) == pair.far_port
    assert next(pair.far.events(timeout=TIMEOUT)) == pair.far_port


def test_a_body_may_close_the_handle(pair: Pair) -> None:
    pair.near.notify(pair.near_port)
    for _ in pair.far.events():
        pair.far.close()
        break
    assert pair.far.closed


def test_a_handle_closed_under_the_loop_ends_it_with_channel_closed(pair: Pair) -> None:
    pair.near.notify(pair.near_port)
    loop = pair.far.events()
    next(loop)
    pair.far.close()
    with pytest.raises(ChannelClosed):
        next(loop)


def test_recover_brings_back_every_port(channel: EventChannel, pairs: list[Pair]) -> None:
    far = pairs[0].far
    send(pairs[:2])
    overflow(far, channel)
    with pytest.raises(RingOverflow):
        far.wait(TIMEOUT)
    assert far.recover() == {pair.far_port for pair in pairs}
    assert far.wait(0) == []
    assert_unmasked(pairs)


def test_recover_brings_events_that_xen_kept(channel: EventChannel, pairs: list[Pair]) -> None:
    far = pairs[0].far
    send(pairs[:1])
    overflow(far, channel)
    send(pairs[:1])  # its port is masked: Xen keeps the event pending
    far.recover()
    expect(far, pairs[0].far_port)


def test_the_loop_recovers_with_on_overflow(channel: EventChannel, pairs: list[Pair]) -> None:
    far = pairs[0].far
    overflow(far, channel)
    with pytest.raises(RingOverflow):
        next(far.events(timeout=0))
    reports: list[frozenset[int]] = []
    assert list(far.events(timeout=0, on_overflow=reports.append)) == []
    assert reports == [frozenset(pair.far_port for pair in pairs)]
    ports = send(pairs)
    assert list(far.events(timeout=0)) == ports

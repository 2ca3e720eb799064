"""What select, poll, epoll and SIGIO report for the descriptor."""

import fcntl
import os
import select
import signal
import struct
import threading
from collections.abc import Iterator

import pytest

from pyxenevtchn import DOMID_SELF, EventChannel, RingOverflow

from ..limits import TIMEOUT
from .events import Pair, expect, expect_nothing

# From Linux's <fcntl.h>.
F_SETOWN_EX, F_OWNER_TID = 15, 0


def readiness(channel: EventChannel) -> int:
    """Return what poll(2) reports at once of POLLIN, POLLOUT and errors."""
    poller = select.poll()
    poller.register(channel, select.POLLIN | select.POLLOUT)
    return dict(poller.poll(0)).get(channel.fileno(), 0)


def test_poll_sees_events_and_is_always_writable(pair: Pair) -> None:
    assert readiness(pair.far) == select.POLLOUT
    assert pair.far.poll(0) == 0
    pair.near.notify(pair.near_port)
    assert pair.far.poll(TIMEOUT) == select.POLLIN
    assert readiness(pair.far) == select.POLLIN | select.POLLOUT
    expect(pair.far, pair.far_port)
    assert readiness(pair.far) == select.POLLOUT
    assert readiness(pair.near) == select.POLLOUT


def test_select_sees_events(pair: Pair) -> None:
    assert select.select([pair.far], [pair.far], [], 0) == ([], [pair.far], [])
    pair.near.notify(pair.near_port)
    assert select.select([pair.far], [], [], TIMEOUT) == ([pair.far], [], [])


def test_epoll_level_and_edge(pair: Pair, fence: Pair) -> None:
    with select.epoll() as level, select.epoll() as edge:
        level.register(pair.far, select.EPOLLIN)
        edge.register(pair.far, select.EPOLLIN | select.EPOLLET)
        assert level.poll(0) == []
        pair.near.notify(pair.near_port)
        ready = [(pair.far.fileno(), select.EPOLLIN)]
        assert level.poll(TIMEOUT) == level.poll(TIMEOUT) == ready
        assert edge.poll(TIMEOUT) == ready
        # A second event while one is still in the ring is no edge.
        pair.far.unmask(pair.far_port)
        pair.near.notify(pair.near_port)
        expect_nothing(fence)
        assert edge.poll(0) == []
        expect(pair.far, pair.far_port, pair.far_port)
        assert level.poll(0) == []
        pair.far.unmask(pair.far_port)
        pair.near.notify(pair.near_port)
        assert edge.poll(TIMEOUT) == ready


def test_an_edge_triggered_epoll_hears_nothing_of_an_overflow(pair: Pair, fence: Pair) -> None:
    with select.epoll() as edge:
        edge.register(pair.far, select.EPOLLIN | select.EPOLLET)
        ready = [(pair.far.fileno(), select.EPOLLIN)]
        for cycle in range(70):
            near = pair.near.bind_unbound_port(DOMID_SELF)
            far = pair.far.bind_interdomain(DOMID_SELF, near)
            assert edge.poll(TIMEOUT if cycle == 0 else 0) == (ready if cycle == 0 else [])
            expect_nothing(fence)
            pair.far.unbind(far)
            pair.near.unbind(near)
        assert edge.poll(0) == []
        with pytest.raises(RingOverflow):
            pair.far.read()
        assert readiness(pair.far) & ~select.POLLOUT == select.POLLERR
        edge.poll(0)  # on a fake, that read may wake it
        pair.far.reset()
        assert readiness(pair.far) == select.POLLOUT
        assert edge.poll(0) == []
        pair.near.notify(pair.near_port)
        assert edge.poll(TIMEOUT) == ready


@pytest.fixture
def blocked_sigio() -> Iterator[None]:
    """Block SIGIO, so that it stays pending until sigtimedwait takes it."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGIO})
    yield
    while signal.sigtimedwait({signal.SIGIO}, 0):
        pass
    signal.pthread_sigmask(signal.SIG_SETMASK, before)


@pytest.mark.usefixtures("blocked_sigio")
def test_sigio_comes_with_the_first_event_alone(pair: Pair, fence: Pair) -> None:
    flags = fcntl.fcntl(pair.far, fcntl.F_GETFL)
    # Sent to this thread, which blocks it, and to no other thread of this process.
    owner = struct.pack("=ii", F_OWNER_TID, threading.get_native_id())
    fcntl.fcntl(pair.far, F_SETOWN_EX, owner)
    fcntl.fcntl(pair.far, fcntl.F_SETFL, flags | os.O_ASYNC)
    pair.near.notify(pair.near_port)
    assert signal.sigtimedwait({signal.SIGIO}, TIMEOUT)
    pair.far.unmask(pair.far_port)
    pair.near.notify(pair.near_port)
    expect_nothing(fence)
    assert signal.sigtimedwait({signal.SIGIO}, 0) is None
    expect(pair.far, pair.far_port, pair.far_port)
    pair.far.unmask(pair.far_port)
    pair.near.notify(pair.near_port)
    assert signal.sigtimedwait({signal.SIGIO}, TIMEOUT)


@pytest.mark.parametrize("timeout", [-1, -0.001, float("nan")])
def test_a_timeout_is_never_negative(channel: EventChannel, timeout: float) -> None:
    for wait in (channel.poll, channel.wait):
        with pytest.raises(ValueError, match="timeout must be"):
            wait(timeout)


@pytest.mark.parametrize("timeout", [None, 1e12, float("inf")])
def test_a_long_timeout_still_ends_with_an_event(pair: Pair, timeout: float | None) -> None:
    pair.near.notify(pair.near_port)
    assert pair.far.poll(timeout) == select.POLLIN
    assert pair.far.wait(timeout) == [pair.far_port]


def test_a_short_timeout_ends_without_one(channel: EventChannel) -> None:
    assert channel.poll(0.01) == 0
    assert channel.wait(0.01) == []

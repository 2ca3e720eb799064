"""Signals while a call waits: Ctrl-C ends the call at once, other signals do not."""

import contextlib
import os
import random
import signal
from collections.abc import Callable, Iterator
from types import FrameType

import pytest

from pyxenevtchn import EventChannel

from ..concurrency import Handler, struck
from ..limits import TIMEOUT
from .conftest import OpenDevice
from .events import Pair, connect


@pytest.mark.parametrize("nonblocking", [True, False])
@pytest.mark.parametrize(
    "wait",
    [
        lambda channel: channel.wait(TIMEOUT),
        lambda channel: channel.wait(),
        lambda channel: channel.poll(),
    ],
    ids=["wait-timeout", "wait", "poll"],
)
def test_ctrl_c_ends_a_wait(
    open_device: OpenDevice, nonblocking: bool, wait: Callable[[EventChannel], object]
) -> None:
    with EventChannel(open_device(nonblocking=nonblocking)) as channel:
        assert_interrupted(channel, wait)


def test_ctrl_c_ends_a_read_that_blocks(open_device: OpenDevice) -> None:
    with EventChannel(open_device(nonblocking=False)) as channel:
        assert_interrupted(channel, EventChannel.read)


def assert_interrupted(channel: EventChannel, wait: Callable[[EventChannel], object]) -> None:
    pair = connect(channel, channel)
    with pytest.raises(KeyboardInterrupt), struck(signal.default_int_handler):
        wait(channel)
    # No event was lost, and the handle works as before.
    channel.notify(pair.near_port)
    assert channel.wait(TIMEOUT) == [pair.far_port]


def test_an_unrelated_signal_ends_no_wait(pair: Pair) -> None:
    with struck(lambda _number, _frame: pair.near.notify(pair.near_port)):
        assert pair.far.wait(TIMEOUT) == [pair.far_port]


def test_a_signal_handler_may_close_the_handle_that_waits(pair: Pair) -> None:
    with (
        struck(lambda _number, _frame: pair.far.close()),
        pytest.raises(ValueError, match="closed while a call waited"),
    ):
        pair.far.wait(TIMEOUT)


def test_a_timeout_that_a_signal_interrupts_still_ends(channel: EventChannel) -> None:
    seen: list[int] = []
    while not seen:
        with struck(lambda number, _frame: seen.append(number)):
            assert channel.wait(0.2) == []


class Struck(Exception):
    pass


@pytest.fixture
def on_alarm() -> Iterator[Callable[[Handler], object]]:
    """Set the handler of SIGALRM."""
    before = signal.getsignal(signal.SIGALRM)
    yield lambda handler: signal.signal(signal.SIGALRM, handler)
    signal.setitimer(signal.ITIMER_REAL, 0)
    signal.signal(signal.SIGALRM, before)


# A client of the shared fake leaves a socket that it was opening to the garbage collector, which
# warns.
@pytest.mark.backends("fake", "preload", "real")
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_calls_that_signals_cut_short_leave_no_descriptor_behind(
    open_device: OpenDevice, on_alarm: Callable[[Handler], object]
) -> None:
    """Check this for an exception that a handler raises anywhere in the library."""
    armed = False

    def strike(_number: int, _frame: FrameType | None) -> None:
        nonlocal armed
        armed = False
        raise Struck

    def call_until_struck(channel: EventChannel, port: int) -> None:
        while armed:  # an exception that is raised in a destructor does not end the loop
            channel.notify(port)
            channel.unmask(port)
            # Up to Python 3.11, a signal that another thread took is handled only here, where
            # the interpreter's lock is released.
            channel.poll(0)

    on_alarm(strike)
    for _ in range(20):
        channel = EventChannel(open_device())
        port = channel.bind_unbound_port(0)
        fd = channel.fileno()
        armed = True
        with contextlib.suppress(Struck):
            signal.setitimer(signal.ITIMER_REAL, 0.001)
            # In Python 3.13, an exception at a loop's jump back to its start escapes the with
            # statement around the loop (python/cpython#108214), so this loop is in a function.
            call_until_struck(channel, port)
        channel.close()
        del channel
        assert not os.path.exists(f"/proc/self/fd/{fd}")  # noqa: PTH110


@pytest.mark.backends("preload", "real")
@pytest.mark.parametrize("take", [EventChannel.wait, EventChannel.read], ids=["wait", "read"])
def test_an_exception_of_a_signal_handler_loses_no_event(
    pair: Pair,
    take: Callable[[EventChannel], list[int]],
    on_alarm: Callable[[Handler], object],
) -> None:
    chance = random.Random()  # noqa: S311 - no secret
    armed = False

    def strike(_number: int, _frame: FrameType | None) -> None:
        if armed:
            raise Struck

    on_alarm(strike)
    for _ in range(200):
        pair.near.notify(pair.near_port)
        assert pair.far.poll(TIMEOUT)
        ports: list[int] = []
        try:
            armed = True
            signal.setitimer(signal.ITIMER_REAL, chance.uniform(1e-6, 5e-4))
            ports = take(pair.far)
            armed = False
        except Struck:
            armed = False
        signal.setitimer(signal.ITIMER_REAL, 0)
        assert (ports or pair.far.wait(TIMEOUT)) == [pair.far_port]
        pair.far.unmask(pair.far_port)

"""A loop that is left in the middle of a batch: the rest of the batch wakes a waiting thread."""

import select

import pytest

from pyxenevtchn import EventChannel

from ..limits import TIMEOUT
from .conftest import OpenChannel
from .events import Pair, connect, expect_nothing
from .leaving import Leave, Sleeper, Wait, in_each_way, wait


def poll(channel: EventChannel) -> list[int]:
    assert channel.poll(TIMEOUT) == select.POLLIN
    return []


def read(channel: EventChannel) -> list[int]:
    return channel.read()


def loop_of_its_own(channel: EventChannel) -> list[int]:
    return [next(channel.events(TIMEOUT))]


@pytest.mark.usefixtures("restless_threads")
@in_each_way
@pytest.mark.parametrize(
    "reader",
    [
        (wait, True),
        (wait, False),
        (poll, True),
        (poll, False),
        (read, False),
        (loop_of_its_own, True),
        (loop_of_its_own, False),
    ],
    ids=lambda reader: f"{reader[0].__name__}-{'nonblocking' if reader[1] else 'blocking'}",
)
def test_leaving_a_loop_wakes_a_waiting_thread(
    open_channel: OpenChannel,
    fence: Pair,
    rounds: int,
    reader: tuple[Wait, bool],
    leave: Leave,
) -> None:
    waits, nonblocking = reader
    near, far = open_channel(), open_channel(nonblocking=nonblocking)
    *pairs, last = [connect(near, far) for _ in range(5)]
    ports = [pair.far_port for pair in (*pairs, last)]
    for _ in range(rounds):
        sleeper = Sleeper(far, waits, last)
        near.notify_many([pair.near_port for pair in pairs])
        came = [leave(far)]
        sleeper.join()
        came += sleeper.ports
        while len(came) < len(ports):
            more = far.wait(TIMEOUT)
            assert more, f"only {came} of {ports} came"
            came += more
        assert sorted(came) == sorted(ports)
        expect_nothing(fence, far)
        far.unmask(ports)

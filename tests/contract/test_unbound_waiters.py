"""AsyncEventChannel: tasks that wait for a port that is unbound, or bound again."""

import asyncio
import contextlib
import errno
import threading
import time
from collections.abc import Callable
from functools import partial

import pytest

from pyxenevtchn import DOMID_SELF, AsyncEventChannel, ChannelClosed, EventChannel

from ..limits import TIMEOUT
from .conftest import OpenChannel
from .events import Pair, connect, expect_nothing
from .loops import Run, send
from .receiving import assert_no_event, by_port_events, by_wait, deliver, started


def test_a_port_that_is_not_bound_cannot_be_waited_for(run: Run, pairs: list[Pair]) -> None:
    async def main() -> None:
        channel = AsyncEventChannel(pairs[0].far)
        port = pairs[0].far_port
        send(pairs[:1])
        channel.unbind(port)
        for number in (port, 0, 131071):
            for receive in (by_wait, by_port_events):
                with pytest.raises(OSError, match="not connected") as caught:
                    await receive(channel, number)
                assert caught.value.errno == errno.ENOTCONN

    run(main)


@pytest.mark.parametrize("by", ["itself", "its channel", "another thread"])
def test_unbinding_a_port_wakes_its_waiters(run: Run, pairs: list[Pair], by: str) -> None:
    async def main() -> None:
        channel = AsyncEventChannel(pairs[0].far)
        port = pairs[0].far_port
        tasks = [await started(receive(channel, port)) for receive in (by_wait, by_port_events)]
        other = await started(by_wait(channel, pairs[1].far_port))
        if by == "itself":
            channel.unbind(port)
        elif by == "its channel":
            channel.channel.unbind(port)
        else:
            await asyncio.to_thread(channel.channel.unbind, port)
        for task in tasks:
            with pytest.raises(ChannelClosed, match=f"port {port} was unbound"):
                await task
        send(pairs[1:2])
        await other

    run(main)


def test_a_waiter_whose_port_is_unbound_as_its_event_comes_ends(
    run: Run, pairs: list[Pair], fence: Pair
) -> None:
    async def main() -> None:
        channel = AsyncEventChannel(pairs[0].far)
        for turns in range(4):
            first, second = pairs[0], connect(pairs[0].near, pairs[0].far)

            async def control(first: int, second: int, turns: int) -> list[int]:
                await channel.wait(first)
                for _ in range(turns):
                    await asyncio.sleep(0)
                channel.unbind(second)
                return []

            tasks = [
                await started(control(first.far_port, second.far_port, turns)),
                await started(by_wait(channel, second.far_port)),
            ]
            deliver([first, second], fence)
            done, pending = await asyncio.wait(tasks, timeout=TIMEOUT)
            assert not pending
            await tasks[0]
            with contextlib.suppress(ChannelClosed):
                await tasks[1]
            assert len(done) == 2
            # The event may have come through another vCPU, and still be there.
            channel.channel.recover()

    run(main)


@pytest.mark.usefixtures("restless_threads")
def test_an_unbind_that_races_with_an_event_leaves_no_waiter(
    run: Run, channel: EventChannel, open_channel: OpenChannel, rounds: int
) -> None:
    start = threading.Barrier(3)

    def begin(work: Callable[[], None]) -> None:
        start.wait(TIMEOUT)
        work()

    async def main() -> None:
        for _ in range(rounds):
            with open_channel() as far:
                pair = connect(channel, far)
                waits = AsyncEventChannel(far)
                threads = [
                    threading.Thread(target=begin, args=[work])
                    for work in (
                        partial(far.unbind, pair.far_port),
                        partial(channel.notify, pair.near_port),
                    )
                ]
                for thread in threads:
                    thread.start()
                task = await started(by_wait(waits, pair.far_port))
                start.wait(TIMEOUT)
                _, pending = await asyncio.wait([task], timeout=TIMEOUT)
                assert not pending
                with contextlib.suppress(ChannelClosed):
                    await task
                for thread in threads:
                    thread.join(TIMEOUT)

    run(main)


@pytest.mark.usefixtures("restless_threads")
def test_an_unbind_that_races_with_a_wait_leaves_no_waiter(
    run: Run, open_channel: OpenChannel, rounds: int
) -> None:
    far = open_channel()
    start = threading.Barrier(2)

    def unbind(port: int) -> None:
        start.wait(TIMEOUT)
        far.unbind(port)

    async def main() -> None:
        channel = AsyncEventChannel(far)
        for _ in range(rounds):
            port = channel.bind_unbound_port(DOMID_SELF)
            thread = threading.Thread(target=unbind, args=[port])
            thread.start()
            start.wait(TIMEOUT)
            # ChannelClosed, or ENOTCONN if the port was unbound before the wait.
            with pytest.raises((ChannelClosed, OSError), match=r"unbound|not connected"):
                await channel.wait(port)
            thread.join(TIMEOUT)

    run(main)


def connect_back(pairs: list[Pair]) -> Pair:
    """Connect the handles of pairs in the other direction: the near port can be bound again."""
    return connect(pairs[0].far, pairs[0].near)


def bind_again(channel: AsyncEventChannel, port: int) -> None:
    """Unbind a port, and bind a new one with the same number."""
    channel.unbind(port)
    end = time.monotonic() + TIMEOUT
    # Xen does not reuse a number whose last event is still in a vCPU's queue.
    while (new := channel.bind_unbound_port(DOMID_SELF)) != port:
        assert time.monotonic() < end
        channel.unbind(new)


def send_in_order(channel: EventChannel, first: Pair, old: Pair) -> None:
    """Wait until an event of ``first`` is in the ring before one is sent to ``old``.

    The two may go through different vCPUs, which deliver in any order.
    """
    send([first])
    assert channel.poll(TIMEOUT)
    old.far.notify(old.far_port)


def test_an_event_goes_to_no_later_owner_of_its_port(
    run: Run, pairs: list[Pair], fence: Pair
) -> None:
    async def main() -> None:
        channel = AsyncEventChannel(pairs[0].far)
        old = connect_back(pairs)
        send_in_order(channel.channel, pairs[0], old)
        expect_nothing(fence)
        await channel.wait(pairs[0].far_port)  # reads both events
        bind_again(channel, old.near_port)
        await assert_no_event(channel, old.near_port, pairs[1])

    run(main)


def test_an_event_that_a_cancelled_waiter_had_goes_to_no_later_owner(
    run: Run, pairs: list[Pair], fence: Pair
) -> None:
    async def main() -> None:
        channel = AsyncEventChannel(pairs[0].far)
        old = connect_back(pairs)

        async def control() -> None:
            await channel.wait(pairs[0].far_port)
            bind_again(channel, old.near_port)
            task.cancel()

        controller = asyncio.create_task(control())
        await asyncio.sleep(0)
        task = await started(by_wait(channel, old.near_port))
        send_in_order(channel.channel, pairs[0], old)
        expect_nothing(fence)
        await controller
        await asyncio.wait([task])
        await assert_no_event(channel, old.near_port, pairs[1])

    run(main)


@pytest.mark.parametrize("asynchronous", [True, False])
def test_an_event_in_a_batch_goes_to_no_later_owner(
    run: Run, pairs: list[Pair], fence: Pair, asynchronous: bool
) -> None:
    async def main() -> None:
        channel = AsyncEventChannel(pairs[0].far)
        old = connect_back(pairs)
        send_in_order(channel.channel, pairs[0], old)
        ports = [pairs[0].far_port, *deliver(pairs[1:], fence)]
        came: list[int] = []

        def work(port: int) -> None:
            if not came:
                bind_again(channel, old.near_port)
            came.append(port)

        if asynchronous:
            async for port in channel.events():
                work(port)
                if len(came) == len(ports):
                    break
        else:
            for port in channel.channel.events(TIMEOUT):
                work(port)
                if len(came) == len(ports):
                    break
        assert came[0] == ports[0]
        assert sorted(came) == sorted(ports)

    run(main)

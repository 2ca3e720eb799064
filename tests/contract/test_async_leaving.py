"""Leaving or closing a loop over events, where asyncio tasks wait or run the loop."""

import asyncio
import contextlib
from collections.abc import Callable, Coroutine

import pytest

from pyxenevtchn import AsyncEventChannel

from .conftest import OpenChannel
from .events import Pair, connect, expect_nothing
from .leaving import Leave, Sleeper, in_each_way, wait
from .loops import Run, cancel, send
from .receiving import (
    Receive,
    by_port_events,
    by_wait,
    deliver,
    for_each_way_to_receive,
    started,
    take_rest,
)


@in_each_way
@for_each_way_to_receive
def test_a_loop_that_is_left_wakes_the_tasks_that_wait(
    run: Run, pairs: list[Pair], fence: Pair, receive: Receive, leave: Leave
) -> None:
    async def main() -> None:
        channel = AsyncEventChannel(pairs[0].far)
        task = await started(receive(channel, pairs[3].far_port))
        ports = deliver(pairs, fence)
        # The event loop has had no turn since the events came; now it finds the ring empty.
        came = [leave(channel.channel)]
        came += await task
        await take_rest(channel, came, ports)

    run(main)


@pytest.mark.usefixtures("restless_threads")
@in_each_way
@for_each_way_to_receive
def test_a_thread_that_leaves_a_loop_wakes_the_tasks_that_wait(
    run: Run, pairs: list[Pair], rounds: int, receive: Receive, leave: Leave
) -> None:
    *first, last = pairs
    far = last.far
    waiting = pairs[2].far_port

    def in_thread() -> int:
        send(first)
        return leave(far)

    async def main() -> None:
        channel = AsyncEventChannel(far)
        ports = [pair.far_port for pair in pairs]

        async def receive_one() -> list[int]:
            try:
                return await receive(channel, waiting)
            finally:
                # Wakes the thread, if no other event is left for it.
                send([last])

        for _ in range(rounds):
            task = await started(receive_one())
            came = [await asyncio.to_thread(in_thread)]
            if waiting in came and receive in {by_wait, by_port_events}:
                await cancel(task)
            else:
                came += await task
            await take_rest(channel, came, ports)
            channel.unmask(ports)

    run(main)


async def leave_by_aclose(channel: AsyncEventChannel) -> int:
    async with contextlib.aclosing(channel.events()) as events:
        return await anext(events)


async def leave_by_break(channel: AsyncEventChannel) -> int:
    async for port in channel.events():  # noqa: B007 - it is what is returned
        break
    return port


async def leave_by_exception(channel: AsyncEventChannel) -> int:
    with contextlib.suppress(LookupError):
        async for port in channel.events():
            raise LookupError(port)
    return port


async def leave_by_cancellation(channel: AsyncEventChannel) -> int:
    ports: list[int] = []

    async def consume() -> None:
        async for port in channel.events():
            ports.append(port)
            await asyncio.Event().wait()

    task = asyncio.create_task(consume())
    while not ports:
        await asyncio.sleep(0.001)
    await cancel(task)
    return ports[0]


@pytest.mark.usefixtures("restless_threads")
@pytest.mark.parametrize(
    "leave", [leave_by_aclose, leave_by_break, leave_by_exception, leave_by_cancellation]
)
def test_an_asynchronous_loop_that_is_left_wakes_a_thread(
    run: Run,
    open_channel: OpenChannel,
    fence: Pair,
    rounds: int,
    leave: Callable[[AsyncEventChannel], Coroutine[None, None, int]],
) -> None:
    near, far = open_channel(), open_channel()
    *pairs, last = [connect(near, far) for _ in range(5)]
    ports = [pair.far_port for pair in (*pairs, last)]

    async def main() -> None:
        channel = AsyncEventChannel(far)
        for _ in range(rounds):
            sleeper = Sleeper(far, wait, last)
            send(pairs)
            came = [await leave(channel)]
            await asyncio.to_thread(sleeper.join)
            came += sleeper.ports
            await take_rest(channel, came, ports)
            expect_nothing(fence, far)
            channel.unmask(ports)

    run(main)


def test_a_loop_that_is_closed_ends(run: Run, pairs: list[Pair], fence: Pair) -> None:
    async def main() -> None:
        channel = AsyncEventChannel(pairs[0].far)
        ports = deliver(pairs, fence)
        events = channel.events()
        assert await anext(events) == ports[0]
        for _ in range(2):
            await events.aclose()
        with pytest.raises(StopAsyncIteration):
            await anext(events)
        send(pairs[:1])  # its port was unmasked
        await take_rest(channel, [], [*ports[1:], ports[0]])

    run(main)


def test_a_loop_of_one_port_that_is_closed_unmasks_it_and_ends(run: Run, pair: Pair) -> None:
    async def main() -> None:
        channel = AsyncEventChannel(pair.far)
        send([pair])
        async with contextlib.aclosing(channel.port_events(pair.far_port)) as events:
            await anext(events)
        send([pair])
        with pytest.raises(StopAsyncIteration):
            await anext(events)
        assert await channel.read() == [pair.far_port]

    run(main)

"""AsyncEventChannel: which task gets an event, where several wait or one consumes all events."""

import asyncio
import contextlib
import os
from collections.abc import Callable
from functools import partial

import pytest

from pyxenevtchn import AsyncEventChannel, EventChannel

from ..limits import TIMEOUT
from .events import Pair
from .loops import Run, cancel, send
from .receiving import assert_no_event, by_events, by_read, by_wait, deliver, started, take_rest


def test_a_task_that_waits_comes_before_the_consumer(
    run: Run, pairs: list[Pair], fence: Pair
) -> None:
    async def main() -> None:
        channel = AsyncEventChannel(pairs[0].far)
        waiting = pairs[2].far_port
        for consume in (by_read, by_events):
            task = await started(by_wait(channel, waiting))
            ports = deliver(pairs, fence)
            came = await consume(channel, 0)
            assert await task == [waiting]
            assert waiting not in came
            await take_rest(channel, [*came, waiting], ports)
            channel.unmask(ports)

    run(main)


def test_a_task_that_waits_comes_before_a_consumer_at_work(
    run: Run, pairs: list[Pair], fence: Pair
) -> None:
    async def main() -> None:
        channel = AsyncEventChannel(pairs[0].far)
        waiting = pairs[2].far_port
        task = await started(by_wait(channel, waiting))
        send(pairs[:1])
        came: list[int] = []
        async for port in channel.events():
            if not came:
                deliver(pairs[1:], fence)
            came.append(port)
            if len(came) == 4:
                break
        assert came == [pair.far_port for pair in pairs if pair.far_port != waiting]
        assert await task == [waiting]

    run(main)


def test_a_port_that_was_waited_for_comes_to_the_consumer_again(
    run: Run, pairs: list[Pair]
) -> None:
    async def main() -> None:
        channel = AsyncEventChannel(pairs[0].far)
        for consume in (by_read, by_events):
            (port,) = send(pairs[:1])
            await channel.wait(port)
            send(pairs[:1])  # the port is masked
            assert await consume(channel, 0) == [port]
            channel.unmask(port)

    run(main)


def test_the_body_of_the_loop_may_wait_for_an_event_in_its_batch(
    run: Run, pairs: list[Pair], fence: Pair
) -> None:
    async def main() -> None:
        channel = AsyncEventChannel(pairs[0].far)
        ports = deliver(pairs, fence)
        came = []
        async for port in channel.events():
            came.append(port)
            if port == ports[0]:
                await channel.wait(ports[3])
            if len(came) == 4:
                break
        assert came == [*ports[:3], ports[4]]
        send([pairs[3]])
        await channel.wait(ports[3])  # unmasks it

    run(main)


def test_the_body_of_the_loop_may_wait_for_a_later_event(
    run: Run, pairs: list[Pair], fence: Pair
) -> None:
    async def main() -> None:
        channel = AsyncEventChannel(pairs[0].far)
        *early, late = pairs
        ports = deliver(early, fence)
        came = []
        async for port in channel.events():
            came.append(port)
            if port == ports[0]:
                asyncio.get_running_loop().call_soon(send, [late])
                await channel.wait(late.far_port)
            if len(came) == 4:
                break
        assert sorted(came) == sorted(ports)

    run(main)


def test_two_tasks_cannot_both_consume_all_events(run: Run, pairs: list[Pair]) -> None:
    async def main() -> None:
        channel = AsyncEventChannel(pairs[0].far)
        first = await started(by_events(channel, 0))
        with pytest.raises(RuntimeError, match="one consumer at a time"):
            channel.events()
        ports = send(pairs[:1])
        assert await first == ports
        # The first task has left its loop.
        async with contextlib.aclosing(channel.events()) as events:
            with pytest.raises(RuntimeError, match="one consumer at a time"):
                await channel.read()
            send(pairs[:1])
            assert await anext(events) == ports[0]
        send(pairs[:1])
        assert await channel.read() == ports

    run(main)


def test_a_loop_that_has_timed_out_makes_way_for_the_next(run: Run, pairs: list[Pair]) -> None:
    async def main() -> None:
        channel = AsyncEventChannel(pairs[0].far)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(0.01):
                async for port in channel.events():
                    raise AssertionError(port)
        ports = send(pairs)
        came = []
        async for port in channel.events():
            came.append(port)
            if len(came) == len(ports):
                break
        assert sorted(came) == sorted(ports)

    run(main)


def test_a_cancelled_loop_does_not_bring_back_a_waiters_event(run: Run, pairs: list[Pair]) -> None:
    async def main() -> None:
        channel = AsyncEventChannel(pairs[0].far)
        port = pairs[0].far_port
        task = await started(by_wait(channel, port))
        send(pairs[:1])
        assert channel.channel.poll(TIMEOUT)
        loop = await started(by_events(channel, 0))
        await task
        await cancel(loop)
        await assert_no_event(channel, port, pairs[1])

    run(main)


def test_events_read_along_with_the_awaited_one_are_there_at_once(
    run: Run, pairs: list[Pair], fence: Pair
) -> None:
    """Check this also after about 100 waits that returned at once, without a turn of the loop."""

    async def main() -> None:
        channel = AsyncEventChannel(pairs[0].far)
        for before in range(95, 105):
            for _ in range(before):
                send(pairs[:1])
                await channel.wait(pairs[0].far_port)
            ports = deliver(pairs, fence)
            await channel.wait(ports[0])
            await take_rest(channel, ports[:1], ports)
            channel.unmask(ports)

    run(main)


@pytest.mark.parametrize("cancelled", [[0], [1], [0, 1]])
def test_waiters_that_are_cancelled_with_their_event_leave_it_to_the_others(
    run: Run, pairs: list[Pair], fence: Pair, cancelled: list[int]
) -> None:
    async def main() -> None:
        channel = AsyncEventChannel(pairs[0].far)
        first, port = (pair.far_port for pair in pairs[:2])
        tasks: list[asyncio.Task[list[int]]] = []

        async def control() -> None:
            await channel.wait(first)
            # The tasks have their event, but have not run since.
            for number in cancelled:
                tasks[number].cancel()

        controller = asyncio.create_task(control())
        await asyncio.sleep(0)
        tasks += [await started(by_wait(channel, port)) for _ in range(2)]
        deliver(pairs[:2], fence)
        await controller
        await asyncio.wait(tasks)
        if len(cancelled) == 2:
            await channel.wait(port)
        else:
            await assert_no_event(channel, port, pairs[2])

    run(main)


def test_an_adopted_handle_waits_for_ports_that_it_was_not_told_of(run: Run, pair: Pair) -> None:
    async def main() -> None:
        with EventChannel.from_fd(os.dup(pair.far.fileno())) as twin:
            channel = AsyncEventChannel(twin)
            send([pair])
            await channel.wait(pair.far_port)

    run(main)


async def recover(ports: frozenset[int]) -> None:
    assert ports


class Recovery:
    async def __call__(self, ports: frozenset[int]) -> None:
        await recover(ports)


@pytest.mark.parametrize("on_overflow", [recover, partial(recover), Recovery()])
def test_a_coroutine_function_for_on_overflow_is_refused(
    channel: EventChannel, on_overflow: Callable[[frozenset[int]], object]
) -> None:
    with pytest.raises(TypeError, match="plain function"):
        AsyncEventChannel(channel, on_overflow=on_overflow)

"""AsyncEventChannel in several event loops, one after the other, some of them closed."""

import asyncio
import contextlib
import gc
import threading
from collections.abc import Callable, Coroutine

import pytest

from pyxenevtchn import AsyncEventChannel, ChannelClosed, EventChannel, Virq

from ..limits import TIMEOUT
from .conftest import OpenChannel
from .events import Pair, expect_nothing, overflow
from .loops import LOOPS, run_in, send

MakeLoop = Callable[[], asyncio.AbstractEventLoop]
Take = Callable[[AsyncEventChannel, int], Coroutine[None, None, list[int]]]


async def by_wait(channel: AsyncEventChannel, port: int) -> list[int]:
    await channel.wait(port)
    channel.unmask(port)
    return [port]


async def by_port_events(channel: AsyncEventChannel, port: int) -> list[int]:
    async with contextlib.aclosing(channel.port_events(port)) as events:
        return [await anext(events)]


async def by_read(channel: AsyncEventChannel, _port: int) -> list[int]:
    ports = await channel.read()
    channel.unmask(ports)
    return ports


async def by_events(channel: AsyncEventChannel, _port: int) -> list[int]:
    async with contextlib.aclosing(channel.events()) as events:
        return [await anext(events)]


EACH_WAY = (by_wait, by_port_events, by_read, by_events)


@pytest.fixture(params=LOOPS)
def make_loop(request: pytest.FixtureRequest) -> MakeLoop:
    return LOOPS[request.param]


def strand(
    make_loop: MakeLoop,
    start: Callable[[], Coroutine[None, None, list[int]]],
    before_its_end: Callable[[], object] = lambda: None,
) -> "asyncio.Task[list[int]]":
    """Start a task in a loop that is closed while the task waits; return it."""
    tasks: list[asyncio.Task[list[int]]] = []

    async def main() -> None:
        tasks.append(asyncio.create_task(start()))
        await asyncio.sleep(0)
        before_its_end()

    loop = make_loop()
    # The loop would report a task that is garbage collected before its end.
    loop.set_exception_handler(lambda _loop, _context: None)
    loop.run_until_complete(main())
    loop.close()
    return tasks[0]


@pytest.mark.parametrize("early", [True, False])
@pytest.mark.parametrize("again", EACH_WAY)
@pytest.mark.parametrize("take", EACH_WAY)
def test_a_task_whose_loop_was_closed_does_not_block_a_later_one(
    make_loop: MakeLoop, pair: Pair, take: Take, again: Take, early: bool
) -> None:
    channel = AsyncEventChannel(pair.far)
    task = strand(make_loop, lambda: take(channel, pair.far_port))

    async def main() -> None:
        for _ in range(2):
            if early:
                send([pair])
                assert pair.far.poll(TIMEOUT)
            else:
                asyncio.get_running_loop().call_soon(send, [pair])
            assert await again(channel, pair.far_port) == [pair.far_port]

    run_in(make_loop, main)
    assert not task.done()


@pytest.mark.parametrize("take", [by_read, by_events])
def test_a_consumer_whose_loop_was_closed_does_not_end_a_later_one(
    make_loop: MakeLoop, pair: Pair, take: Take
) -> None:
    channel = AsyncEventChannel(pair.far)
    tasks = [strand(make_loop, lambda: take(channel, pair.far_port))]

    async def main() -> None:
        async with contextlib.aclosing(channel.events()) as events:
            tasks.clear()
            gc.collect()
            with pytest.raises(RuntimeError, match="one consumer at a time"):
                channel.events()
            send([pair])
            assert await anext(events) == pair.far_port

    run_in(make_loop, main)


@pytest.mark.parametrize("take", EACH_WAY)
def test_an_event_whose_loop_was_closed_as_it_came_goes_to_the_next(
    make_loop: MakeLoop, pairs: list[Pair], fence: Pair, take: Take
) -> None:
    channel = AsyncEventChannel(pairs[0].far)
    ports = [pair.far_port for pair in pairs]

    def arrive() -> None:
        send(pairs)
        expect_nothing(fence)

    task = strand(make_loop, lambda: take(channel, ports[2]), arrive)

    async def main() -> None:
        # Whether a loop that ends still runs the task depends on the kind of loop.
        came = task.result() if task.done() else []
        while len(came) < len(ports):
            came += await channel.read()
        assert sorted(came) == sorted(ports)

    run_in(make_loop, main)


@pytest.mark.parametrize("take", EACH_WAY)
def test_an_overflow_between_two_loops_is_for_the_second(
    make_loop: MakeLoop, channel: EventChannel, pair: Pair, take: Take
) -> None:
    reports: list[frozenset[int]] = []
    far = AsyncEventChannel(pair.far, on_overflow=reports.append)

    async def main() -> None:
        asyncio.get_running_loop().call_soon(send, [pair])
        await take(far, pair.far_port)

    run_in(make_loop, main)
    assert reports == []
    overflow(pair.far, channel)

    async def after_the_overflow() -> None:
        task = asyncio.create_task(take(far, pair.far_port))
        while not reports:
            await asyncio.sleep(0)
        send([pair])
        await task

    run_in(make_loop, after_the_overflow)
    assert reports == [{pair.far_port}]


@pytest.mark.usefixtures("restless_threads")
def test_a_handle_closed_in_another_thread_as_its_loop_ends_is_closed(
    open_channel: OpenChannel, make_loop: MakeLoop, rounds: int
) -> None:
    start = threading.Barrier(2)

    def close(channel: EventChannel) -> None:
        start.wait(TIMEOUT)
        channel.close()

    async def main(channel: AsyncEventChannel, port: int, turns: int) -> None:
        task = asyncio.create_task(channel.wait(port))
        await asyncio.sleep(0)
        start.wait(TIMEOUT)
        for _ in range(turns):
            await asyncio.sleep(0)
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError, ChannelClosed):
            await task

    for turn in range(rounds):
        channel = open_channel()
        port = channel.bind_virq(Virq.ARGO)
        closer = threading.Thread(target=close, args=[channel])
        closer.start()
        with asyncio.Runner(loop_factory=make_loop) as runner:
            runner.run(main(AsyncEventChannel(channel), port, turn % 4))
        closer.join(TIMEOUT)
        assert not closer.is_alive()
        assert channel.closed
        with open_channel() as other:
            assert other.bind_virq(Virq.ARGO)


def test_a_handle_is_closed_once_its_loop_has_ended(make_loop: MakeLoop, pair: Pair) -> None:
    async def main() -> None:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.01):
                await AsyncEventChannel(pair.far).wait(pair.far_port)

    run_in(make_loop, main)
    pair.far.bind_virq(Virq.ARGO)
    closer = threading.Thread(target=pair.far.close)
    closer.start()
    closer.join(TIMEOUT)
    assert pair.near.bind_virq(Virq.ARGO)


def test_closing_a_handle_does_not_wake_a_closed_loop(make_loop: MakeLoop, pair: Pair) -> None:
    channel = AsyncEventChannel(pair.far)
    task = strand(make_loop, lambda: by_wait(channel, pair.far_port))
    pair.far.unbind(pair.far_port)
    channel.close()
    assert channel.closed
    assert not task.done()

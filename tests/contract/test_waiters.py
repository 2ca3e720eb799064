"""AsyncEventChannel: who gets an event, among the tasks that wait, the consumer and others."""

import asyncio
import contextlib
import errno
import os
import threading
import time
from collections.abc import Callable, Coroutine
from functools import partial

import pytest

from pyxenevtchn import DOMID_SELF, AsyncEventChannel, ChannelClosed, EventChannel

from ..limits import TIMEOUT
from .conftest import OpenChannel
from .events import Pair, connect, expect_nothing
from .leaving import ROUNDS, Leave, Sleeper, in_each_way, wait
from .loops import Run, cancel, send

Next = Callable[[AsyncEventChannel, int], Coroutine[None, None, list[int]]]


async def by_wait(channel: AsyncEventChannel, port: int) -> list[int]:
    await channel.wait(port)
    return [port]


async def by_port_events(channel: AsyncEventChannel, port: int) -> list[int]:
    return [await anext(channel.port_events(port))]


async def by_read(channel: AsyncEventChannel, _port: int) -> list[int]:
    return await channel.read()


async def by_events(channel: AsyncEventChannel, _port: int) -> list[int]:
    return [await anext(channel.events())]


for_each_way_to_wait = pytest.mark.parametrize(
    "receive", [by_wait, by_port_events, by_read, by_events]
)


async def started(work: Coroutine[None, None, list[int]]) -> "asyncio.Task[list[int]]":
    """Start a task, and let it come to where it waits."""
    task = asyncio.create_task(work)
    await asyncio.sleep(0)
    return task


def arrived(pairs: list[Pair], fence: Pair) -> list[int]:
    """Send to each pair; return the ports, once all the events are in the ring."""
    ports = send(pairs)
    expect_nothing(fence)
    return ports


async def take_rest(channel: AsyncEventChannel, came: list[int], ports: list[int]) -> None:
    """Take events until all ports have come; see that each has come once."""
    while len(came) < len(ports):
        came += await channel.read()
    assert sorted(came) == sorted(ports)


async def show_nothing(channel: AsyncEventChannel, port: int, other: Pair) -> None:
    """Show that a port has no event: one that is sent later is there, and it is not."""
    task = await started(by_wait(channel, port))
    other.near.notify(other.near_port)
    await channel.wait(other.far_port)
    await asyncio.sleep(0)
    assert not task.done(), f"port {port} had an event"
    await cancel(task)


@in_each_way
@for_each_way_to_wait
def test_a_loop_that_is_left_wakes_the_tasks_that_wait(
    run: Run, pairs: list[Pair], fence: Pair, receive: Next, leave: Leave
) -> None:
    async def main() -> None:
        channel = AsyncEventChannel(pairs[0].far)
        task = await started(receive(channel, pairs[3].far_port))
        ports = arrived(pairs, fence)
        # The event loop has had no turn since: it finds nothing in the ring.
        came = [leave(channel.channel)]
        came += await task
        await take_rest(channel, came, ports)

    run(main)


@pytest.mark.usefixtures("restless_threads")
@in_each_way
@for_each_way_to_wait
def test_a_thread_that_leaves_a_loop_wakes_the_tasks_that_wait(
    run: Run, pairs: list[Pair], receive: Next, leave: Leave
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
                # The thread's, if nothing was left for it.
                send([last])

        for _ in range(ROUNDS):
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
    leave: Callable[[AsyncEventChannel], Coroutine[None, None, int]],
) -> None:
    near, far = open_channel(), open_channel()
    *pairs, last = [connect(near, far) for _ in range(5)]
    ports = [pair.far_port for pair in (*pairs, last)]

    async def main() -> None:
        channel = AsyncEventChannel(far)
        for _ in range(ROUNDS):
            sleeper = Sleeper(far, wait, last)
            send(pairs)
            came = [await leave(channel)]
            await asyncio.to_thread(sleeper.join)
            came += sleeper.ports
            await take_rest(channel, came, ports)
            expect_nothing(fence, far)
            channel.unmask(ports)

    run(main)


def test_a_task_that_waits_comes_before_the_consumer(
    run: Run, pairs: list[Pair], fence: Pair
) -> None:
    async def main() -> None:
        channel = AsyncEventChannel(pairs[0].far)
        waiting = pairs[2].far_port
        for consume in (by_read, by_events):
            task = await started(by_wait(channel, waiting))
            ports = arrived(pairs, fence)
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
                arrived(pairs[1:], fence)
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


def test_the_body_of_the_loop_may_wait_for_what_is_in_its_batch(
    run: Run, pairs: list[Pair], fence: Pair
) -> None:
    async def main() -> None:
        channel = AsyncEventChannel(pairs[0].far)
        ports = arrived(pairs, fence)
        came = []
        async for port in channel.events():
            came.append(port)
            if port == ports[0]:
                await channel.wait(ports[3])
            if len(came) == 4:
                break
        assert came == [*ports[:3], ports[4]]
        send([pairs[3]])
        await channel.wait(ports[3])  # the call unmasks it

    run(main)


def test_the_body_of_the_loop_may_wait_for_what_is_yet_to_come(
    run: Run, pairs: list[Pair], fence: Pair
) -> None:
    async def main() -> None:
        channel = AsyncEventChannel(pairs[0].far)
        *early, late = pairs
        ports = arrived(early, fence)
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


def test_two_tasks_cannot_both_go_through_all_events(run: Run, pairs: list[Pair]) -> None:
    async def main() -> None:
        channel = AsyncEventChannel(pairs[0].far)
        first = await started(by_events(channel, 0))
        with pytest.raises(RuntimeError, match="one consumer at a time"):
            channel.events()
        ports = send(pairs[:1])
        assert await first == ports
        # The first one has left its loop.
        async with contextlib.aclosing(channel.events()) as events:
            with pytest.raises(RuntimeError, match="one consumer at a time"):
                await channel.read()
            send(pairs[:1])
            assert await anext(events) == ports[0]
        send(pairs[:1])
        assert await channel.read() == ports

    run(main)


def test_a_loop_that_is_closed_ends(run: Run, pairs: list[Pair], fence: Pair) -> None:
    async def main() -> None:
        channel = AsyncEventChannel(pairs[0].far)
        ports = arrived(pairs, fence)
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


def test_a_loop_that_was_cancelled_brings_back_nothing_that_a_waiter_had(
    run: Run, pairs: list[Pair]
) -> None:
    async def main() -> None:
        channel = AsyncEventChannel(pairs[0].far)
        port = pairs[0].far_port
        task = await started(by_wait(channel, port))
        send(pairs[:1])
        assert channel.channel.poll(TIMEOUT)
        loop = await started(by_events(channel, 0))
        await task
        await cancel(loop)
        await show_nothing(channel, port, pairs[1])

    run(main)


def test_what_was_read_beside_the_event_that_was_waited_for_is_there_at_once(
    run: Run, pairs: list[Pair], fence: Pair
) -> None:
    """However often the events were there already, without a turn of the event loop."""

    async def main() -> None:
        channel = AsyncEventChannel(pairs[0].far)
        for before in range(95, 105):
            for _ in range(before):
                send(pairs[:1])
                await channel.wait(pairs[0].far_port)
            ports = arrived(pairs, fence)
            await channel.wait(ports[0])
            await take_rest(channel, ports[:1], ports)
            channel.unmask(ports)

    run(main)


@pytest.mark.parametrize("cancelled", [[0], [1], [0, 1]])
def test_waiters_that_are_cancelled_once_they_have_an_event_leave_it_to_the_others(
    run: Run, pairs: list[Pair], fence: Pair, cancelled: list[int]
) -> None:
    async def main() -> None:
        channel = AsyncEventChannel(pairs[0].far)
        first, port = (pair.far_port for pair in pairs[:2])
        tasks: list[asyncio.Task[list[int]]] = []

        async def control() -> None:
            await channel.wait(first)
            # The tasks have their event, and have not run since.
            for number in cancelled:
                tasks[number].cancel()

        controller = asyncio.create_task(control())
        await asyncio.sleep(0)
        tasks += [await started(by_wait(channel, port)) for _ in range(2)]
        arrived(pairs[:2], fence)
        await controller
        await asyncio.wait(tasks)
        if len(cancelled) == 2:
            await channel.wait(port)
        else:
            await show_nothing(channel, port, pairs[2])

    run(main)


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


def test_an_adopted_handle_waits_for_ports_that_it_was_not_told_of(run: Run, pair: Pair) -> None:
    async def main() -> None:
        with EventChannel.from_fd(os.dup(pair.far.fileno())) as twin:
            channel = AsyncEventChannel(twin)
            send([pair])
            await channel.wait(pair.far_port)

    run(main)


@pytest.mark.parametrize("by", ["itself", "its channel", "another thread"])
def test_whoever_unbinds_a_port_wakes_those_who_wait_for_it(
    run: Run, pairs: list[Pair], by: str
) -> None:
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
            arrived([first, second], fence)
            done, pending = await asyncio.wait(tasks, timeout=TIMEOUT)
            assert not pending
            await tasks[0]
            with contextlib.suppress(ChannelClosed):
                await tasks[1]
            assert len(done) == 2
            # Its event may have come by a vCPU of its own, and be left.
            channel.channel.recover()

    run(main)


@pytest.mark.usefixtures("restless_threads")
def test_an_unbind_that_races_with_an_event_leaves_no_waiter(
    run: Run, channel: EventChannel, open_channel: OpenChannel
) -> None:
    start = threading.Barrier(3)

    def begin(work: Callable[[], None]) -> None:
        start.wait(TIMEOUT)
        work()

    async def main() -> None:
        for _ in range(ROUNDS):
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
    run: Run, open_channel: OpenChannel
) -> None:
    far = open_channel()
    start = threading.Barrier(2)

    def unbind(port: int) -> None:
        start.wait(TIMEOUT)
        far.unbind(port)

    async def main() -> None:
        channel = AsyncEventChannel(far)
        for _ in range(ROUNDS):
            port = channel.bind_unbound_port(DOMID_SELF)
            thread = threading.Thread(target=unbind, args=[port])
            thread.start()
            start.wait(TIMEOUT)
            # ChannelClosed, or ENOTCONN where the port was gone before.
            with pytest.raises((ChannelClosed, OSError), match=r"unbound|not connected"):
                await channel.wait(port)
            thread.join(TIMEOUT)

    run(main)


def offered(pairs: list[Pair]) -> Pair:
    """Connect two ports of the handles of pairs, so that the near one can be bound again."""
    return connect(pairs[0].far, pairs[0].near)


def bind_again(channel: AsyncEventChannel, port: int) -> None:
    """Unbind a port and bind a new one, which has its number."""
    channel.unbind(port)
    end = time.monotonic() + TIMEOUT
    # Xen gives no number whose last event is still in a vCPU's queue.
    while (new := channel.bind_unbound_port(DOMID_SELF)) != port:
        assert time.monotonic() < end
        channel.unbind(new)


def send_in_order(channel: EventChannel, first: Pair, old: Pair) -> None:
    """Have an event of ``first`` in a handle's ring before one of ``old`` is sent to it.

    Each may have a vCPU of its own.
    """
    send([first])
    assert channel.poll(TIMEOUT)
    old.far.notify(old.far_port)


def test_an_event_goes_to_no_later_owner_of_its_port(
    run: Run, pairs: list[Pair], fence: Pair
) -> None:
    async def main() -> None:
        channel = AsyncEventChannel(pairs[0].far)
        old = offered(pairs)
        send_in_order(channel.channel, pairs[0], old)
        expect_nothing(fence)
        await channel.wait(pairs[0].far_port)  # both were read
        bind_again(channel, old.near_port)
        await show_nothing(channel, old.near_port, pairs[1])

    run(main)


def test_an_event_that_a_cancelled_waiter_had_goes_to_no_later_owner(
    run: Run, pairs: list[Pair], fence: Pair
) -> None:
    async def main() -> None:
        channel = AsyncEventChannel(pairs[0].far)
        old = offered(pairs)

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
        await show_nothing(channel, old.near_port, pairs[1])

    run(main)


@pytest.mark.parametrize("asynchronous", [True, False])
def test_an_event_in_a_batch_goes_to_no_later_owner(
    run: Run, pairs: list[Pair], fence: Pair, asynchronous: bool
) -> None:
    async def main() -> None:
        channel = AsyncEventChannel(pairs[0].far)
        old = offered(pairs)
        send_in_order(channel.channel, pairs[0], old)
        ports = [pairs[0].far_port, *arrived(pairs[1:], fence)]
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


async def recover(ports: frozenset[int]) -> None:
    assert ports


class Recovery:
    async def __call__(self, ports: frozenset[int]) -> None:
        await recover(ports)


@pytest.mark.parametrize("on_overflow", [recover, partial(recover), Recovery()])
def test_what_would_have_to_be_awaited_after_an_overflow_is_refused(
    channel: EventChannel, on_overflow: Callable[[frozenset[int]], object]
) -> None:
    with pytest.raises(TypeError, match="plain function"):
        AsyncEventChannel(channel, on_overflow=on_overflow)

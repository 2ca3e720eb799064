"""AsyncEventChannel: waiting in asyncio, cancelled at any moment, without losing an event."""

import asyncio
import gc
import selectors

import pytest

from pyxenevtchn import (
    DOMID_SELF,
    AsyncEventChannel,
    ChannelClosed,
    EventChannel,
    RingOverflow,
    Virq,
)

from ..concurrency import threads
from ..limits import TIMEOUT
from .conftest import OpenChannel
from .events import Pair, expect, overflow
from .loops import Run, cancel, run_in, send


async def fail_at_the_first_event(channel: AsyncEventChannel) -> None:
    async for port in channel.events():
        raise LookupError(port)


def test_the_loop_gives_every_event_and_unmasks_it(run: Run, pairs: list[Pair]) -> None:
    async def main() -> None:
        channel = AsyncEventChannel(pairs[0].far)
        for _ in range(3):
            ports = send(pairs)
            came = []
            async for port in channel.events():
                came.append(port)
                if len(came) == len(ports):
                    break
            assert came == ports

    run(main)


def test_a_loop_that_is_left_keeps_the_rest_of_the_batch(run: Run, pairs: list[Pair]) -> None:
    async def main() -> None:
        channel = AsyncEventChannel(pairs[0].far)
        ports = send(pairs)
        async for port in channel.events():
            assert port == ports[0]
            break
        came: list[int] = []
        while len(came) < 4:
            came += await channel.read()
        assert came == ports[1:]
        pairs[0].near.notify(pairs[0].near_port)  # unmasked by the break
        assert await channel.read() == [ports[0]]

    run(main)


def test_an_exception_in_the_body_unmasks_the_port(run: Run, pair: Pair) -> None:
    async def main() -> None:
        channel = AsyncEventChannel(pair.far)
        for _ in range(3):
            pair.near.notify(pair.near_port)
            with pytest.raises(LookupError):
                await fail_at_the_first_event(channel)

    run(main)


def test_tasks_wait_for_a_port_each(run: Run, pairs: list[Pair]) -> None:
    async def main() -> None:
        channel = AsyncEventChannel(pairs[0].far)
        order: list[int] = []

        async def wait(pair: Pair) -> None:
            for _ in range(3):
                await channel.wait(pair.far_port)
                order.append(pair.far_port)
                pair.far.notify(pair.far_port)

        async with asyncio.TaskGroup() as group:
            for pair in pairs:
                group.create_task(wait(pair))
            near = AsyncEventChannel(pairs[0].near)
            for _ in range(3):
                send(pairs)
                for pair in pairs:
                    await near.wait(pair.near_port)
        assert sorted(order) == sorted(3 * [pair.far_port for pair in pairs])

    run(main)


def test_all_waiters_of_a_port_get_its_event(run: Run, pair: Pair) -> None:
    async def main() -> None:
        channel = AsyncEventChannel(pair.far)
        waiters = [asyncio.create_task(channel.wait(pair.far_port)) for _ in range(5)]
        await asyncio.sleep(0)
        pair.near.notify(pair.near_port)
        await asyncio.gather(*waiters)

    run(main)


def test_an_event_since_the_last_wait_returns_at_once(run: Run, pairs: list[Pair]) -> None:
    async def main() -> None:
        channel = AsyncEventChannel(pairs[0].far)
        first, second = pairs[:2]
        await asyncio.wait_for(channel.wait(send([first])[0]), TIMEOUT)
        for _ in range(3):
            first.near.notify(first.near_port)  # the port is masked: they become one
        second.near.notify(second.near_port)
        await channel.wait(second.far_port)
        await channel.wait(first.far_port)
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.1):
                await channel.wait(first.far_port)

    run(main)


def test_an_event_nobody_waited_for_is_kept(run: Run, pairs: list[Pair]) -> None:
    async def main() -> None:
        channel = AsyncEventChannel(pairs[0].far)
        ports = send(pairs)
        await channel.wait(ports[4])
        for port in ports[:4]:
            await channel.wait(port)

    run(main)


def test_the_iterator_of_one_port(run: Run, pairs: list[Pair]) -> None:
    async def main() -> None:
        channel = AsyncEventChannel(pairs[0].far)
        count = 0
        send(pairs[:1])
        async for port in channel.port_events(pairs[0].far_port):
            assert port == pairs[0].far_port
            count += 1
            if count == 3:
                break
            send(pairs[:1])
        send(pairs[:1])  # the break has unmasked it
        await channel.wait(pairs[0].far_port)

    run(main)


def test_cancelled_waits_lose_nothing(run: Run, pairs: list[Pair]) -> None:
    async def main() -> None:
        channel = AsyncEventChannel(pairs[0].far)
        port = pairs[0].far_port
        for wait in (
            lambda: channel.wait(port),
            channel.read,
            lambda: anext(channel.events()),
            lambda: anext(channel.port_events(port)),
        ):
            task = asyncio.ensure_future(wait())
            await asyncio.sleep(0)
            await cancel(task)
            send(pairs[:1])
            await channel.wait(port)

    run(main)


class CountingSelector(selectors.DefaultSelector):
    """A selector that counts how often an event loop polls."""

    turns = 0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        self.turns += 1
        return super().select(timeout)


def test_an_event_that_nobody_waits_for_leaves_the_loop_idle(pairs: list[Pair]) -> None:
    selector = CountingSelector()

    async def main() -> None:
        channel = AsyncEventChannel(pairs[0].far)
        before = len(selector.get_map())
        task = asyncio.ensure_future(channel.wait(pairs[0].far_port))
        await asyncio.sleep(0)
        await cancel(task)
        ports = send(pairs)
        assert pairs[0].far.poll(TIMEOUT)
        turns = selector.turns
        await asyncio.sleep(0.2)
        assert selector.turns - turns < 10
        assert len(selector.get_map()) == before
        for port in ports:
            await channel.wait(port)

    run_in(lambda: asyncio.SelectorEventLoop(selector), main)


def test_a_wait_cancelled_as_its_event_arrives_loses_nothing(run: Run, pairs: list[Pair]) -> None:
    """Cancel at several moments between the event and the waiter's next step."""

    async def main() -> None:
        channel = AsyncEventChannel(pairs[0].far)
        port = pairs[0].far_port
        for steps in range(6):
            for wait in (lambda: channel.wait(port), lambda: anext(channel.events())):
                task = asyncio.ensure_future(wait())
                await asyncio.sleep(0)
                send(pairs[:1])
                for _ in range(steps):
                    await asyncio.sleep(0.001)
                task.cancel()
                try:
                    await task
                except asyncio.CancelledError:
                    await channel.wait(port)
                channel.unmask(port)

    run(main)


def test_a_timeout_loses_nothing(run: Run, pair: Pair) -> None:
    async def main() -> None:
        channel = AsyncEventChannel(pair.far)
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.01):
                await channel.read()
        pair.near.notify(pair.near_port)
        assert await channel.read() == [pair.far_port]

    run(main)


@pytest.mark.parametrize("by", ["itself", "its channel", "another thread"])
def test_closing_wakes_every_waiter(run: Run, pairs: list[Pair], by: str) -> None:
    async def main() -> None:
        channel = AsyncEventChannel(pairs[0].far)
        channel.bind_virq(Virq.ARGO)
        waiters = [asyncio.create_task(channel.wait(pair.far_port)) for pair in pairs]
        await asyncio.sleep(0)
        if by == "itself":
            channel.close()
        elif by == "its channel":
            channel.channel.close()
        else:
            await asyncio.to_thread(channel.channel.close)
        for error in await asyncio.gather(*waiters, return_exceptions=True):
            assert isinstance(error, ChannelClosed)
        assert channel.closed
        with pytest.raises(ChannelClosed):
            await channel.read()
        assert pairs[0].near.bind_virq(Virq.ARGO)

    run(main)


def test_the_context_manager_closes(run: Run, open_channel: OpenChannel) -> None:
    async def main() -> None:
        async with AsyncEventChannel(open_channel()) as channel:
            near = channel.bind_unbound_port(DOMID_SELF)
            far = channel.bind_interdomain(DOMID_SELF, near)
            await channel.wait(far)  # the event that a connecting port starts with
            channel.notify(near)
            assert await channel.read() == [far]
        assert channel.closed

    run(main)


def test_a_second_consumer_is_refused(run: Run, pairs: list[Pair]) -> None:
    async def main() -> None:
        channel = AsyncEventChannel(pairs[0].far)
        task = asyncio.ensure_future(channel.read())
        await asyncio.sleep(0)
        with pytest.raises(RuntimeError, match="one consumer at a time"):
            await channel.read()
        with pytest.raises(RuntimeError, match="one consumer at a time"):
            channel.events()
        with pytest.raises(RuntimeError, match="another event loop or AsyncEventChannel"):
            await AsyncEventChannel(pairs[0].far).read()
        ports = send(pairs[:1])
        assert await task == ports

    run(main)


def test_a_second_event_loop_is_refused_while_the_first_waits(run: Run, pair: Pair) -> None:
    async def main() -> None:
        channel = AsyncEventChannel(pair.far)
        task = asyncio.ensure_future(channel.read())
        await asyncio.sleep(0)

        def elsewhere() -> None:
            asyncio.run(channel.wait(pair.far_port))

        with pytest.raises(RuntimeError, match="another event loop"):
            await asyncio.to_thread(elsewhere)
        pair.near.notify(pair.near_port)
        assert await task == [pair.far_port]

    run(main)


def test_a_handle_outlives_its_event_loops(run: Run, pair: Pair) -> None:
    async def main() -> None:
        pair.near.notify(pair.near_port)
        await AsyncEventChannel(pair.far).wait(pair.far_port)
        pair.far.unmask(pair.far_port)

    pair.far.bind_virq(Virq.ARGO)
    run(main)
    run(main)
    pair.near.notify(pair.near_port)
    expect(pair.far, pair.far_port)
    pair.far.close()
    assert pair.near.bind_virq(Virq.ARGO)


def test_overflow_reaches_every_waiter(run: Run, channel: EventChannel, pairs: list[Pair]) -> None:
    far = pairs[0].far

    async def main() -> None:
        asynchronous = AsyncEventChannel(far)
        overflow(far, channel)
        waiters = [asyncio.create_task(asynchronous.wait(pair.far_port)) for pair in pairs]
        for error in await asyncio.gather(*waiters, return_exceptions=True):
            assert isinstance(error, RingOverflow)
        far.recover()
        ports = send(pairs)
        for port in ports:
            await asynchronous.wait(port)

    run(main)


def test_with_on_overflow_it_recovers(run: Run, channel: EventChannel, pairs: list[Pair]) -> None:
    far = pairs[0].far

    async def main() -> None:
        reports: list[frozenset[int]] = []
        asynchronous = AsyncEventChannel(far, on_overflow=reports.append)
        overflow(far, channel)
        task = asyncio.ensure_future(asynchronous.read())
        while not reports:
            await asyncio.sleep(0.001)
        assert reports == [frozenset(pair.far_port for pair in pairs)]
        ports = send(pairs[:1])
        assert await task == ports

    run(main)


def test_unbinding_wakes_the_ports_waiters(run: Run, pairs: list[Pair]) -> None:
    async def main() -> None:
        channel = AsyncEventChannel(pairs[0].far)
        port = pairs[0].far_port
        waiting, other = (
            asyncio.create_task(channel.wait(pair.far_port)) for pair in (pairs[0], pairs[1])
        )
        await asyncio.sleep(0)
        channel.unbind(port)
        with pytest.raises(ChannelClosed, match=f"port {port} was unbound"):
            await waiting
        send(pairs[1:2])
        await other

    run(main)


def test_events_and_waits_may_follow_each_other(run: Run, pairs: list[Pair]) -> None:
    async def main() -> None:
        channel = AsyncEventChannel(pairs[0].far)
        ports = send(pairs)
        await channel.wait(ports[2])
        rest = set()
        async for port in channel.events():
            rest.add(port)
            if len(rest) == 4:
                break
        assert rest == set(ports) - {ports[2]}

    run(main)


def test_threads_notify_while_the_loop_waits(run: Run, pair: Pair) -> None:
    async def main() -> None:
        channel = AsyncEventChannel(pair.far)
        for _ in range(5):
            with threads(lambda: pair.near.notify(pair.near_port)):
                await channel.wait(pair.far_port)

    run(main)
    gc.collect()

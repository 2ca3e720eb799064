"""The operations of AsyncEventChannel that are struck: coroutines of a user, run to their end."""

import asyncio
from collections.abc import Callable, Coroutine, Iterable
from contextlib import aclosing, suppress
from dataclasses import replace
from functools import partial
from typing import Any

from pyxenevtchn import DOMID_SELF, AsyncEventChannel, ChannelClosed, Virq

from .async_world import AsyncWorld
from .operations import (
    Call,
    Operation,
    Queue,
    in_the_ring,
    left_over,
    nothing,
    overflowed,
)
from .world import World

Scenario = Callable[[AsyncWorld], Coroutine[Any, Any, None]]


def kept(world: World) -> None:
    """Events that were read while a task waited for another event."""
    assert isinstance(world, AsyncWorld)
    world.send(*world.ports)
    world.run(world.channel.wait(world.ports[2]))
    world.yielded.append(world.ports[2])


ASYNC_QUEUES: tuple[Queue, ...] = (nothing, in_the_ring, left_over, kept)


# Waiting for a port. One call into C records the event that the owner got, so no handler can run
# in the middle of it.


async def wait_for(world: AsyncWorld, port: int) -> None:
    await world.channel.wait(port)
    world.yielded.append(port)


async def wait(world: AsyncWorld) -> None:
    world.send_soon(world.ports[0])
    await wait_for(world, world.ports[0])


async def wait_again(world: AsyncWorld) -> None:
    await wait(world)
    await wait(world)


async def wait_in_tasks(world: AsyncWorld) -> None:
    tasks = [world.start(wait_for(world, port)) for port in world.ports]
    world.send_soon(*world.ports)
    await end_of(tasks)


async def wait_together(world: AsyncWorld) -> None:
    """Let several tasks wait for one port before its event comes: it goes to all of them."""
    world.shared = True
    tasks = [world.start(wait_for(world, world.ports[0])) for _ in range(3)]
    world.send_soon(world.ports[0])
    await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    # A strike while they are woken can prevent some of them from being woken.
    for task in tasks:
        await asyncio.sleep(0)
        task.cancel()
    await end_of(tasks)


async def port_events(world: AsyncWorld) -> None:
    world.send_soon(world.ports[0])
    turns = 0
    async for port in world.channel.port_events(world.ports[0]):
        world.yielded.append(port)
        turns += 1
        if turns == 2:
            break
        world.send_soon(port)


async def port_events_closing(world: AsyncWorld) -> None:
    world.send_soon(world.ports[0])
    async with aclosing(world.channel.port_events(world.ports[0])) as events:
        async for port in events:
            world.yielded.append(port)
            break


# Consuming all events.


async def read(world: AsyncWorld) -> None:
    world.consumes = True
    world.send_soon(*world.ports)
    world.came.extend(await world.channel.read())


async def events(world: AsyncWorld) -> None:
    """Reach a second batch: each port gets another event while the body handles its first."""
    world.consumes = True
    world.send_soon(*world.ports)
    turns = 0
    async for port in world.channel.events():
        world.yielded.append(port)
        turns += 1
        if turns == 4:
            break
        if port not in world.answered:
            world.answered.add(port)
            world.send(port)


async def events_exception(world: AsyncWorld) -> None:
    world.consumes = True
    world.send_soon(*world.ports)
    with suppress(LookupError):
        async for port in world.channel.events():
            world.yielded.append(port)
            raise LookupError(port)


async def events_closing(world: AsyncWorld) -> None:
    world.consumes = True
    world.send_soon(*world.ports)
    async with aclosing(world.channel.events()) as iterator:
        async for port in iterator:
            world.yielded.append(port)
            break


async def wait_in_events(world: AsyncWorld) -> None:
    world.consumes = True
    world.send_soon(world.ports[0])
    async for port in world.channel.events():
        world.yielded.append(port)
        world.send_soon(*world.held)
        await wait_for(world, world.held[0])
        break


# Ending a wait from another task.


async def cancel(world: AsyncWorld, turns: int, start: Scenario) -> None:
    """Cancel a task after some turns of the loop; its event comes in the first turn."""
    task = world.start(start(world))
    for _ in range(turns):
        await asyncio.sleep(0)
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task


async def unbind(world: AsyncWorld) -> None:
    tasks = [world.start(wait_for(world, port)) for port in world.ports]
    await asyncio.sleep(0)
    world.channel.unbind(world.ports[0])
    world.send_soon(*world.ports[1:])
    await end_of(tasks)


async def close(world: AsyncWorld) -> None:
    tasks = [world.start(wait_for(world, port)) for port in world.ports]
    await asyncio.sleep(0)
    world.channel.close()
    await end_of(tasks)


async def leave(world: AsyncWorld) -> None:
    async with world.channel:
        pass


async def end_of(tasks: Iterable["asyncio.Task[None]"]) -> None:
    """Wait for tasks; some may end with ChannelClosed, or be cancelled."""
    for result in await asyncio.gather(*tasks, return_exceptions=True):
        if result and not isinstance(result, ChannelClosed | asyncio.CancelledError):
            raise result


def scenario(run: Scenario, queues: tuple[Queue, ...] = ASYNC_QUEUES) -> Operation:
    def prepare(world: AsyncWorld) -> Call:
        return lambda: world.run(run(world))

    return Operation(prepare, queues, world=AsyncWorld)


def plain(prepare: Callable[[AsyncWorld], Call]) -> Operation:
    return Operation(prepare, (nothing,), world=AsyncWorld)


ASYNC_OPERATIONS: dict[str, Operation] = {
    "wait": scenario(wait),
    "wait-again": scenario(wait_again),
    "wait-in-tasks": scenario(wait_in_tasks),
    "wait-together": scenario(wait_together, (nothing,)),
    "wait-overflow": replace(scenario(wait, (overflowed,)), drops=True),
    "port-events": scenario(port_events, (nothing, left_over)),
    "port-events-closing": scenario(port_events_closing, (nothing, left_over)),
    "read": scenario(read),
    "read-overflow": replace(scenario(read, (overflowed,)), drops=True),
    "events": scenario(events),
    "events-exception": scenario(events_exception),
    "events-closing": scenario(events_closing),
    "events-wait": scenario(wait_in_events),
    "events-overflow": replace(scenario(events, (overflowed,)), drops=True),
    **{
        f"{start.__name__}-cancel-{turns}": replace(
            scenario(
                partial(cancel, turns=turns, start=start),
                (nothing,) if turns > 1 else ASYNC_QUEUES,
            ),
            cancels=True,
        )
        for start in (wait, read, events_closing)
        for turns in range(1, 5)
    },
    "unbind": replace(scenario(unbind), unbinds=True),
    "close": replace(scenario(close), closes=True),
    "exit": replace(scenario(leave), closes=True),
    "new": plain(lambda w: lambda: AsyncEventChannel(w.near)),
    "bind-virq": plain(lambda w: lambda: w.channel.bind_virq(Virq.ARGO)),
    "bind-interdomain": plain(lambda w: lambda: w.channel.bind_interdomain(DOMID_SELF, w.offer)),
    "bind-unbound-port": plain(lambda w: lambda: w.channel.bind_unbound_port(DOMID_SELF)),
    "unmask": plain(lambda w: lambda: w.channel.unmask(w.ports)),
    "notify": plain(lambda w: lambda: w.channel.notify(w.ports[0])),
    "notify-many": plain(lambda w: lambda: w.channel.notify_many(w.ports)),
}

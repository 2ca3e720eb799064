"""Ways in which a task receives events, and helpers for tests of waiting tasks."""

import asyncio
from collections.abc import Callable, Coroutine

import pytest

from pyxenevtchn import AsyncEventChannel

from .events import Pair, expect_nothing
from .loops import cancel, send

Receive = Callable[[AsyncEventChannel, int], Coroutine[None, None, list[int]]]


async def by_wait(channel: AsyncEventChannel, port: int) -> list[int]:
    await channel.wait(port)
    return [port]


async def by_port_events(channel: AsyncEventChannel, port: int) -> list[int]:
    return [await anext(channel.port_events(port))]


async def by_read(channel: AsyncEventChannel, _port: int) -> list[int]:
    return await channel.read()


async def by_events(channel: AsyncEventChannel, _port: int) -> list[int]:
    return [await anext(channel.events())]


for_each_way_to_receive = pytest.mark.parametrize(
    "receive", [by_wait, by_port_events, by_read, by_events]
)


async def started(work: Coroutine[None, None, list[int]]) -> "asyncio.Task[list[int]]":
    """Start a task, and let it run until it waits."""
    task = asyncio.create_task(work)
    await asyncio.sleep(0)
    return task


def deliver(pairs: list[Pair], fence: Pair) -> list[int]:
    """Notify each pair and wait until the events are in the ring; return their ports."""
    ports = send(pairs)
    expect_nothing(fence)
    return ports


async def take_rest(channel: AsyncEventChannel, came: list[int], ports: list[int]) -> None:
    """Read until all ports have come; check that each came once."""
    while len(came) < len(ports):
        came += await channel.read()
    assert sorted(came) == sorted(ports)


async def assert_no_event(channel: AsyncEventChannel, port: int, other: Pair) -> None:
    """Check that a port has no event: a later one of another port comes, and none of this port."""
    task = await started(by_wait(channel, port))
    other.near.notify(other.near_port)
    await channel.wait(other.far_port)
    await asyncio.sleep(0)
    assert not task.done(), f"port {port} had an event"
    await cancel(task)

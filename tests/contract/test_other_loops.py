"""trio and anyio, which wait for the handle's descriptor: the library needs no code for them."""

import anyio
import pytest
import trio

from pyxenevtchn import EventChannel

from ..limits import TIMEOUT
from .events import Pair


async def echo_with_anyio(channel: EventChannel, events: int) -> None:
    while events:
        await anyio.wait_readable(channel)
        for port in channel.events(timeout=0):
            channel.notify(port)
            events -= 1


async def echo_with_trio(channel: EventChannel, events: int) -> None:
    while events:
        await trio.lowlevel.wait_readable(channel.fileno())
        for port in channel.events(timeout=0):
            channel.notify(port)
            events -= 1


@pytest.mark.parametrize("backend_name", ["asyncio", "trio"])
def test_anyio(pair: Pair, backend_name: str) -> None:
    async def main() -> None:
        with anyio.fail_after(TIMEOUT):
            async with anyio.create_task_group() as group:
                group.start_soon(echo_with_anyio, pair.far, 3)
                for _ in range(3):
                    pair.near.notify(pair.near_port)
                    await anyio.wait_readable(pair.near)
                    assert list(pair.near.events(timeout=0)) == [pair.near_port]

    anyio.run(main, backend=backend_name)


def test_trio(pair: Pair) -> None:
    async def main() -> None:
        with trio.fail_after(TIMEOUT):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(echo_with_trio, pair.far, 3)
                for _ in range(3):
                    pair.near.notify(pair.near_port)
                    await trio.lowlevel.wait_readable(pair.near.fileno())
                    assert list(pair.near.events(timeout=0)) == [pair.near_port]

    trio.run(main)

"""The event loops that asyncio tests run in."""

import asyncio
import sys
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
import uvloop

from ..limits import TIMEOUT
from .events import Pair

Run = Callable[[Callable[[], Awaitable[None]]], None]

LOOPS: dict[str, Callable[[], asyncio.AbstractEventLoop]] = {
    "asyncio": asyncio.new_event_loop,
    "uvloop": uvloop.new_event_loop,
}
if sys.version_info >= (3, 12):

    def eager_loop() -> asyncio.AbstractEventLoop:
        loop = asyncio.new_event_loop()
        loop.set_task_factory(asyncio.eager_task_factory)
        return loop

    LOOPS["eager"] = eager_loop


def run_in(
    loop_factory: Callable[[], asyncio.AbstractEventLoop], main: Callable[[], Awaitable[None]]
) -> None:
    """Run a coroutine function in an event loop of its own, in debug mode."""

    async def within_time() -> None:
        async with asyncio.timeout(2 * TIMEOUT):
            await main()

    with asyncio.Runner(debug=True, loop_factory=loop_factory) as runner:
        runner.run(within_time())


def send(pairs: list[Pair]) -> list[int]:
    """Notify each pair; return the ports that the events go to."""
    for pair in pairs:
        pair.near.notify(pair.near_port)
    return [pair.far_port for pair in pairs]


async def cancel(task: "asyncio.Task[Any]") -> None:
    """Cancel a task that waits, and check that it was cancelled."""
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task

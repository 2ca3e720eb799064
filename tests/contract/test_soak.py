"""Cancellations, overflows and recoveries at the same time, at random: no event may be lost.

The test takes two seconds; ``--soak SECONDS`` makes it longer.
"""

import asyncio
import contextlib
import random
import threading
import time
from collections import Counter
from collections.abc import AsyncIterator, Coroutine
from concurrent.futures import Future, ThreadPoolExecutor

import pytest

from pyxenevtchn import DOMID_SELF, AsyncEventChannel

from .conftest import OpenChannel
from .events import overflow

PAIRS = 100


class Soak:
    """A hundred ports, a thread that sends to them, and a task that is cancelled repeatedly."""

    def __init__(self, open_channel: OpenChannel) -> None:
        self.near, self.far, self.spare = open_channel(), open_channel(), open_channel()
        self.senders: dict[int, int] = {}
        for _ in range(PAIRS):
            offered = self.near.bind_unbound_port(DOMID_SELF)
            self.senders[self.far.bind_interdomain(DOMID_SELF, offered)] = offered
        self.stop = threading.Event()
        # A connecting port starts with an event.
        self.sent: Counter[int] = Counter(self.senders.keys())
        self.received: Counter[int] = Counter()
        self.seen: dict[int, int] = {}
        self.cancellations = 0
        self.recoveries = 0

    def unseen(self) -> dict[int, int]:
        """Return the ports whose last event has not been seen, and how many were sent to each."""
        return {port: n for port, n in self.sent.items() if self.seen.get(port) != n}

    def send(self) -> None:
        """Notify random ports, in bursts."""
        chance = random.Random()  # noqa: S311 - no secret
        while not self.stop.is_set():
            for port in chance.sample(list(self.senders), chance.randint(1, PAIRS)):
                self.sent[port] += 1
                self.near.notify(self.senders[port])
            self.stop.wait(chance.random() / 200)

    def overflow(self) -> None:
        """Overflow the ring while no task reads."""
        overflow(self.far, self.spare)

    def look(self, port: int) -> None:
        """Record that all events that were sent to a port by now have been seen."""
        self.seen[port] = self.sent[port]

    def overflowed(self, ports: frozenset[int]) -> None:
        """Look at every port, after an overflow."""
        self.recoveries += 1
        for port in ports & self.senders.keys():
            self.look(port)

    async def consume(self, channel: AsyncEventChannel) -> None:
        """Look at each port that has an event; let other tasks run now and then."""
        async for port in channel.events():
            if port not in self.senders:
                continue  # read before overflow() unbound it
            self.received[port] += 1
            assert self.received[port] <= self.sent[port], f"an event on {port} was never sent"
            self.look(port)
            if self.received[port] % 20 == 0:
                await asyncio.sleep(0)

    async def run(self, seconds: float, sender: Future[None]) -> None:
        """Consume and cancel for some seconds, then consume until all events have been seen."""
        chance = random.Random()  # noqa: S311 - no secret
        channel = AsyncEventChannel(self.far, on_overflow=self.overflowed)
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            async with self.cancelled(self.consume(channel)):
                await asyncio.sleep(chance.random() / 50)
            if chance.random() < 0.02:
                self.overflow()
        self.stop.set()
        async with self.cancelled(self.consume(channel)) as task, asyncio.timeout(60):
            while (self.unseen() or not sender.done()) and not task.done():
                await asyncio.sleep(0.01)

    @contextlib.asynccontextmanager
    async def cancelled(
        self, work: Coroutine[None, None, None]
    ) -> AsyncIterator[asyncio.Task[None]]:
        """Run a task while the body runs, and cancel it at the end."""
        task = asyncio.create_task(work)
        try:
            yield task
        finally:
            task.cancel()
            self.cancellations += 1
            with contextlib.suppress(asyncio.CancelledError):
                await task


def test_no_event_is_lost_and_none_invented(
    pytestconfig: pytest.Config, open_channel: OpenChannel, capsys: pytest.CaptureFixture[str]
) -> None:
    seconds: float = pytestconfig.getoption("--soak")
    soak = Soak(open_channel)
    with ThreadPoolExecutor() as pool:
        sender = pool.submit(soak.send)
        try:
            asyncio.run(soak.run(seconds, sender))
        finally:
            soak.stop.set()
        sender.result()
    assert soak.unseen() == {}
    with capsys.disabled():
        print(
            f"\n{seconds:g} s, {PAIRS} ports: {soak.sent.total()} events sent,"
            f" {soak.received.total()} received, {soak.cancellations} cancellations,"
            f" {soak.recoveries} recoveries, every port's last event seen, none invented"
        )

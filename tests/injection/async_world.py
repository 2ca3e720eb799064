"""A world with an event loop in it."""

import asyncio
import gc
import selectors
from collections import Counter
from collections.abc import Callable, Coroutine, Iterable, Iterator
from contextlib import suppress
from typing import Any, TypeVar

from pyxenevtchn import AsyncEventChannel, ChannelClosed, EventChannel

from .strike import forget_frames
from .world import Machine, Stuck, World

T = TypeVar("T")

MOST_TURNS = 1000


class Spinning(Exception):
    """The loop has had more turns than anything here takes."""


class _Selector(selectors.DefaultSelector):
    """Waits for events that are on their way alone: there is nobody else who could wake a task.

    Args:
        patience: tells how many seconds one may take.
    """

    turns = 0

    def __init__(self, patience: Callable[[], float]) -> None:
        super().__init__()
        self._patience = patience

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        ready = super().select(0 if timeout is not None else self._patience())
        if timeout is None and not ready:
            raise Stuck
        self.turns += 1
        if self.turns > MOST_TURNS:
            self.turns = 0
            raise Spinning
        return ready


class AsyncWorld(World):
    """The handle that is struck is used in an event loop.

    Attributes:
        loop: the loop.
        channel: the handle, in asyncio.
        came: ports that the owner has read.
        shared: whether several tasks wait for a port, and each gets its event.
        consumes: whether the owner goes on as a consumer first.
    """

    def __init__(self, machine: Machine, **options: bool) -> None:
        super().__init__(machine, **options)
        self.loop = asyncio.SelectorEventLoop(_Selector(self._patience))
        # Tells whether tasks wait for events that are on their way.
        self._expects: Callable[[], bool] = self._expects_any
        self.loop.set_exception_handler(self._hear)
        self.channel: AsyncEventChannel = AsyncEventChannel(
            self.near, on_overflow=self.recovered.append
        )
        self.came: list[int] = []
        self.shared: bool = False
        self.consumes: bool = False
        self._complaints: list[str] = []
        self._tasks: list[asyncio.Task[Any]] = []

    def run(self, coroutine: Coroutine[Any, Any, T]) -> T:
        """Have the loop run something.

        Raises:
            Stuck: it does not end.
        """
        return self.loop.run_until_complete(self.start(coroutine))

    def start(self, coroutine: Coroutine[Any, Any, T]) -> "asyncio.Task[T]":
        """Start a task, and keep it: one that nobody is to wake would be garbage."""
        task = self.loop.create_task(coroutine)
        self._tasks.append(task)
        return task

    def send_soon(self, *ports: int) -> None:
        """Send an event to each of these ports, in the loop's next turn, if it has none then."""
        self.loop.call_soon(self._send_new, ports)

    def put_away(self, opened: EventChannel | None) -> Iterator[str]:
        """End the tasks too, after those that were woken have had their turn."""
        yield from super().put_away(opened)
        self._expects = lambda: False
        self._run_all()
        self._end_tasks()
        # A task that has failed is in a cycle with the frames that it failed in.
        for each in self.told:
            forget_frames(each)
        gc.collect()
        self._expects = self._expects_any
        if self.shared:
            self.yielded = list(dict.fromkeys(self.yielded))
        self.see(self.came)
        self.came = []

    def go_on(self) -> None:
        """Go on as the owner does: wait for each port, and consume what is left; or the reverse."""
        for consume in (self.consumes, not self.consumes):
            self.near.unmask(self.in_hand)
            self.in_hand.clear()
            self.machine.settle()
            while self._consume() if consume else self._wait():
                pass

    def close(self) -> Iterator[str]:
        """Close the loop too."""
        self._tasks.clear()
        self.channel.close()
        self._expects = lambda: False
        try:
            self._run_all()
            self.run(self.loop.shutdown_asyncgens())
        except Exception as error:  # noqa: BLE001 - whatever it is, it is wrong
            yield f"as the loop ends: {error!r}"
        self.loop.close()
        yield from super().close()
        yield from self._complaints

    def had(self) -> Counter[int]:
        return super().had() + Counter(self.came)

    def _expects_any(self) -> bool:
        # Where events may have gone, it is not known which are to come.
        return self.drops or self.owes()

    def _patience(self) -> float:
        return self.machine.patience if self._expects() else 0

    def _send_new(self, ports: Iterable[int]) -> None:
        had = self.had()
        self.send(*[port for port in ports if self.sent[port] <= had[port]])

    def _wait(self) -> bool:
        """Wait for each port; return whether anything came."""
        ports = [port for port in (*self.ports, *self.held) if port in self.near.bindings]
        return self._run_for_a_while(map(self._wait_for, ports))

    async def _wait_for(self, port: int) -> None:
        await self.channel.wait(port)
        # Where an event is seen in the same turn, nobody waits for it any longer.
        self.seen[port] += 1

    def _consume(self) -> bool:
        """Read; return whether anything came."""
        came = self._run_for_a_while([self._read()])
        self.near.unmask(self.in_hand)
        self.in_hand.clear()
        self.machine.settle()
        return came

    async def _read(self) -> None:
        self.see(await self.channel.read())

    def _run_for_a_while(self, coroutines: Iterable[Coroutine[Any, Any, None]]) -> bool:
        """Run them until none goes on, and cancel them; return whether any has ended."""
        tasks = [self.loop.create_task(coroutine) for coroutine in coroutines]
        self._expects = lambda: self.owes() and any(not task.done() for task in tasks)
        self._run_all()
        came = any(task.done() for task in tasks)
        for task in tasks:
            self._cancel(task)
        return came

    def _end_tasks(self) -> None:
        while self._tasks:
            task = self._tasks.pop()
            try:
                if not task.done():
                    self._cancel(task)
            except Stuck:
                self.has_dead_task = True
            except ChannelClosed:
                pass  # as it should
            except BaseException as error:  # noqa: BLE001 - the handler's, most of all
                self.told.append(error)

    def _run_all(self) -> None:
        """Run the loop until it has nothing to do."""
        while True:
            try:
                self.loop.run_forever()
            except Stuck:
                return
            except KeyboardInterrupt as error:  # a task has ended with the handler's
                self.told.append(error)

    def _cancel(self, task: "asyncio.Task[Any]") -> None:
        task.cancel()
        with suppress(asyncio.CancelledError):
            self.loop.run_until_complete(task)

    def _hear(self, _loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        error = context.get("exception")
        if error:
            self.told.append(error)
        elif not self.has_dead_task:
            self._complaints.append(context["message"])

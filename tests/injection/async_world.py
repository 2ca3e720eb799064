"""A world with an event loop."""

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

# More turns of the loop than any operation takes.
MAX_TURNS = 1000


class Spinning(Exception):
    """The loop has had more than MAX_TURNS turns."""


class _Selector(selectors.DefaultSelector):
    """Waits only as long as an event may be on its way: nothing else can wake a task here.

    Args:
        patience: returns that time, in seconds.
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
        if self.turns > MAX_TURNS:
            self.turns = 0
            raise Spinning
        return ready


class AsyncWorld(World):
    """A world in which the struck handle is used in an event loop.

    Attributes:
        loop: the loop.
        channel: the handle's AsyncEventChannel.
        came: ports that the owner has read.
        shared: whether several tasks wait for one port, and each gets its event.
        consumes: whether the owner goes on as a consumer first, and waits for single ports then.
    """

    def __init__(self, machine: Machine, **options: bool) -> None:
        super().__init__(machine, **options)
        self.loop = asyncio.SelectorEventLoop(_Selector(self._patience))
        # Returns whether tasks wait for events that are on their way.
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
        """Run a coroutine in the loop.

        Raises:
            Stuck: it does not end.
        """
        return self.loop.run_until_complete(self.start(coroutine))

    def start(self, coroutine: Coroutine[Any, Any, T]) -> "asyncio.Task[T]":
        """Start a task, and keep a reference: a task that is never woken would be garbage."""
        task = self.loop.create_task(coroutine)
        self._tasks.append(task)
        return task

    def send_soon(self, *ports: int) -> None:
        """In the loop's next turn, send an event to each port whose events have all been taken."""
        self.loop.call_soon(self._send_new, ports)

    def put_away(self, opened: EventChannel | None) -> Iterator[str]:
        """End the tasks too, after those that were woken have run."""
        yield from super().put_away(opened)
        self._expects = lambda: False
        self._run_all()
        self._end_tasks()
        # A failed task is in a reference cycle with the frames of its exception.
        for each in self.told:
            forget_frames(each)
        gc.collect()
        self._expects = self._expects_any
        if self.shared:
            self.yielded = list(dict.fromkeys(self.yielded))
        self.see(self.came)
        self.came = []

    def go_on(self) -> None:
        """Go on as the owner: wait for each port, then consume what is left, or the reverse."""
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
        except Exception as error:  # noqa: BLE001 - none is expected
            yield f"the loop ended with {error!r}"
        self.loop.close()
        yield from super().close()
        yield from self._complaints

    def had(self) -> Counter[int]:
        return super().had() + Counter(self.came)

    def _expects_any(self) -> bool:
        # Where events may be lost, it is not known which ones are still to come.
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
        # Count the event in this turn: owes() then no longer waits for it.
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
        """Run coroutines until none makes progress, then cancel them; return whether any ended."""
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
                pass  # expected
            except BaseException as error:  # noqa: BLE001 - mostly the handler's
                self.told.append(error)

    def _run_all(self) -> None:
        """Run the loop until it has nothing to do."""
        while True:
            try:
                self.loop.run_forever()
            except Stuck:
                return
            except KeyboardInterrupt as error:  # the handler's, which has ended a task
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

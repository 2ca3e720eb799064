"""Strikes an operation everywhere, and tells what was wrong afterwards."""

import gc
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Self

from pyxenevtchn import ChannelClosed, EventChannel

from ..descriptors import descriptors
from .operations import Operation, Queue
from .strike import CALLER, Strike, forget_frames, strikes
from .world import Machine, Stuck, World

# Where asyncio itself loses a task to a handler that raises: in Future.set_result, and where its
# loop, the library's caller, has just taken the task out of its queue.
WAKING = "in BaseEventLoop.call_soon"


class Report:
    """What strikes have shown.

    Attributes:
        strikes: how many struck.
        failures: after how many of them something was wrong.
    """

    def __init__(self) -> None:
        self.strikes: int = 0
        self.failures: int = 0
        self._lines: Counter[str] = Counter()

    def add(self, strike: Strike, problems: Iterable[str]) -> None:
        """Add a strike and what was wrong after it."""
        self.strikes += strike.raised is not None
        # One can bring many more, of the same kind.
        distinct = ", ".join(dict.fromkeys(problems))
        if distinct:
            self.failures += 1
            self._lines[f"{strike.place or 'not struck'}: {distinct}"] += 1

    def __str__(self) -> str:
        lines = [f"  {line} ({count} times)" for line, count in self._lines.items()]
        return "\n".join([f"{self.failures} of {self.strikes} strikes failed", *lines])


@contextmanager
def quiet_collector() -> Iterator[None]:
    """Have no finalizer run by chance, and garbage collections cost little."""
    gc.collect()
    gc.freeze()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()
        gc.unfreeze()


class Finalizers:
    """Hears of what finalizers raise, while it is entered."""

    def __init__(self) -> None:
        # Its append is the hook: a handler that is due does not run in C.
        self._unraisables: list[sys.UnraisableHookArgs] = []

    def __enter__(self) -> Self:
        self._before, sys.unraisablehook = sys.unraisablehook, self._unraisables.append
        return self

    def __exit__(self, *_: object) -> None:
        sys.unraisablehook = self._before

    def errors(self) -> list[BaseException]:
        """Give what was raised since the last time, and let go of the frames, as the usual hook."""
        errors = [each.exc_value for each in self._unraisables if each.exc_value]
        self._unraisables.clear()
        for error in errors:
            forget_frames(error)
        return errors


def assert_unharmed(machine: Callable[[], Machine], operation: Operation, stride: int) -> None:
    """Strike an operation, in every way: everywhere, or once for about so many opcodes."""
    reports = {
        f"{queue.__name__}, {error.__name__}": examine(machine, operation, queue, error, stride)
        for queue in operation.queues
        # Ctrl-C's, and one that is an Exception and an OSError, which the library may catch.
        for error in (KeyboardInterrupt, TimeoutError)
    }
    assert all(report.strikes for report in reports.values())
    bad = [f"{way}: {report}" for way, report in reports.items() if report.failures]
    assert not bad, "\n".join(bad)


def examine(
    machine: Callable[[], Machine],
    operation: Operation,
    queue: Queue,
    error: type[BaseException],
    stride: int,
) -> Report:
    """Strike an operation with one error, and one thing in the queue."""
    report = Report()
    for strike in strikes(error, stride):
        before = descriptors()
        with Finalizers() as finalizers:
            world = operation.world(
                machine(),
                blocking=operation.blocking,
                drops=operation.drops,
                unbinds=operation.unbinds,
            )
            problems = list(_strike_once(world, operation, queue, strike, finalizers))
            told = world.told
            del world
            # What is raised as garbage goes holds garbage itself.
            collected = True
            while collected:
                told += finalizers.errors()
                for each in told:
                    forget_frames(each)
                collected = gc.collect() > 0
        if descriptors() - before:
            problems.append("a descriptor is left open")
        problems += _outcome(strike, operation, told)
        report.add(strike, problems)
    return report


def _strike_once(
    world: World,
    operation: Operation,
    queue: Queue,
    strike: Strike,
    finalizers: Finalizers,
) -> Iterator[str]:
    if operation.holds:
        world.hold()
    queue(world)
    call = operation.prepare(world)
    strike.run(call)
    del call
    world.told += finalizers.errors()
    if operation.taken and strike.returned:
        world.see(operation.taken(world, strike.value))
    opened = strike.value if isinstance(strike.value, EventChannel) else None
    strike.value = None
    try:
        yield from world.put_away(opened)
        if operation.by_c and strike.place == CALLER and not strike.returned:
            world.drops = True
        if world.has_dead_task and strike.raised and strike.place.endswith((WAKING, CALLER)):
            world.told.append(strike.raised)
            strike.error = None
            world.drops = True
        elif world.has_dead_task:
            yield "a task cannot be ended"
        if not world.near.closed:
            yield from world.problems()
        elif not operation.closes:
            yield "the handle is closed"
    except Exception as error:  # noqa: BLE001 - whatever it is, it is one
        yield f"then {error!r}"
    yield from world.close()


def _outcome(strike: Strike, operation: Operation, others: list[BaseException]) -> Iterator[str]:
    """Say what is wrong with the exceptions that came out of the call, or were told elsewhere."""
    expected = [ChannelClosed, operation.error]
    if operation.warns:
        expected.append(ResourceWarning)
    if strike.place == CALLER:
        # It has lost the new handle, or the coroutine, that it was to get; or, in asyncio, whom to
        # tell that a task is done.
        expected += [ResourceWarning if operation.by_c else (), RuntimeWarning, Stuck]
    errors = [strike.error, *others] if strike.error else others
    told = any(error is strike.raised for error in errors) or operation.cancels
    if strike.raised and not told:
        yield "the handler's exception is lost"
    for error in errors:
        if error is not strike.raised and not isinstance(error, tuple(expected)):
            if not strike.raised:
                raise error
            yield f"there was {error!r}"

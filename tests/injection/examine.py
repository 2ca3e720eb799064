"""Strike an operation at every opcode, and report what is wrong afterwards."""

import errno
import functools
import gc
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Self

from pyxenevtchn import ChannelClosed, EventChannel

from ..concurrency import threads
from ..descriptors import descriptors
from .operations import Operation, Queue
from .strike import CALLER, Strike, forget_frames, strikes
from .world import Machine, Stuck, World

Act = Callable[[World], object]

# Two places where asyncio itself loses a task if a handler raises: in Future.set_result, and in its
# event loop, the library's caller, just after it has taken the task out of its queue.
WAKING = "in BaseEventLoop.call_soon"


class LikeTheDrivers(FileExistsError):
    """An OSError with an errno, as the driver's are."""

    def __init__(self, place: str) -> None:
        super().__init__(errno.EEXIST, place)


class Report:
    """The results of strikes.

    Attributes:
        strikes: in how many of them the handler raised.
        failures: after how many of them something was wrong.
    """

    def __init__(self) -> None:
        self.strikes: int = 0
        self.failures: int = 0
        self._lines: Counter[str] = Counter()

    def add(self, strike: Strike, problems: Iterable[str]) -> None:
        """Add a strike and the problems after it."""
        self.strikes += strike.ran
        # One problem often causes many more of the same kind.
        distinct = ", ".join(dict.fromkeys(problems))
        if distinct:
            self.failures += 1
            self._lines[f"{strike.place or 'not struck'}: {distinct}"] += 1

    def __str__(self) -> str:
        lines = [f"  {line} ({count} times)" for line, count in self._lines.items()]
        return "\n".join([f"{self.failures} of {self.strikes} strikes failed", *lines])


@contextmanager
def quiet_collector() -> Iterator[None]:
    """Prevent garbage collections at random moments, and make explicit ones cheap."""
    gc.collect()
    gc.freeze()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()
        gc.unfreeze()


class Finalizers:
    """A context that collects the exceptions of finalizers."""

    def __init__(self) -> None:
        # The hook is its append method: no handler runs in a function in C.
        self._unraisables: list[sys.UnraisableHookArgs] = []

    def __enter__(self) -> Self:
        self._before, sys.unraisablehook = sys.unraisablehook, self._unraisables.append
        return self

    def __exit__(self, *_: object) -> None:
        sys.unraisablehook = self._before

    def errors(self) -> list[BaseException]:
        """Return the exceptions since the last call; drop their frames, as the usual hook does."""
        errors = [each.exc_value for each in self._unraisables if each.exc_value]
        self._unraisables.clear()
        for error in errors:
            forget_frames(error)
        return errors


def assert_unharmed(machine: Callable[[], Machine], operation: Operation, stride: int) -> None:
    """Strike an operation with each error and each queue, and fail if anything is wrong."""
    reports = {
        f"{queue.__name__}, {error.__name__}": examine(machine, operation, queue, error, stride)
        for queue in operation.queues
        # The exception of Ctrl-C, and one that looks like an error of the driver.
        for error in (KeyboardInterrupt, LikeTheDrivers)
    }
    assert all(report.strikes for report in reports.values())
    bad = [f"{way}: {report}" for way, report in reports.items() if report.failures]
    assert not bad, "\n".join(bad)


def assert_undisturbed(
    machine: Callable[[], Machine], operation: Operation, act: Act, stride: int, *, in_thread: bool
) -> None:
    """Strike an operation with a handler that uses the handle, and fail if anything is wrong.

    Args:
        machine: creates the machine.
        operation: the operation.
        act: what the handler does.
        stride: about how many opcodes there are to a strike.
        in_thread: whether another thread does it, for which the handler waits.
    """

    def run(world: World) -> None:
        if in_thread:
            with threads(lambda: act(world)):
                pass
        else:
            act(world)

    reports = {
        queue.__name__: examine(machine, operation, queue, None, stride, run)
        for queue in operation.queues
    }
    assert all(report.strikes for report in reports.values())
    bad = [f"{way}: {report}" for way, report in reports.items() if report.failures]
    assert not bad, "\n".join(bad)


def examine(  # noqa: PLR0913, PLR0917
    machine: Callable[[], Machine],
    operation: Operation,
    queue: Queue,
    error: type[BaseException] | None,
    stride: int,
    act: Act | None = None,
) -> Report:
    """Strike an operation with one error, or with one act, and one queue."""
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
            if act:
                strike.act = functools.partial(act, world)
            problems = list(_strike_once(world, operation, queue, strike, finalizers))
            strike.act = bool  # it refers to the world
            told = world.told
            del world
            # An exception that is raised while garbage is collected holds garbage itself.
            collected = True
            while collected:
                told += finalizers.errors()
                for each in told:
                    forget_frames(each)
                collected = gc.collect() > 0
        if descriptors() - before:
            problems.append("a descriptor was left open")
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
            yield "a task cannot be cancelled"
        if not world.near.closed:
            yield from world.problems()
        elif not (operation.closes or world.closes):
            yield "the handle is closed"
    except Exception as error:  # noqa: BLE001 - each is a problem
        yield f"then the owner got {error!r}"
    yield from world.close()


def _outcome(strike: Strike, operation: Operation, others: list[BaseException]) -> Iterator[str]:
    """Yield what is wrong with the exceptions of the call and of finalizers and event loops."""
    expected = [ChannelClosed, operation.error]
    if not strike.raised and strike.ran:
        expected.append(OSError)  # of a port that the handler has unbound
    if operation.warns:
        expected.append(ResourceWarning)
    if strike.place == CALLER:
        # The caller has lost its result, a new handle or a coroutine; or asyncio has lost the task
        # that waits for another task's end.
        expected += [ResourceWarning if operation.by_c else (), RuntimeWarning, Stuck]
    errors = [strike.error, *others] if strike.error else others
    told = any(error is strike.raised for error in errors) or operation.cancels
    if strike.raised and not told:
        yield "the handler's exception was lost"
    for error in errors:
        if error is not strike.raised and not isinstance(error, tuple(expected)):
            if not strike.ran:
                raise error
            yield f"unexpected: {error!r}"

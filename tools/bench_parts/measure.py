"""How everything here is measured: subjects in turn, medians, and ratios within each round."""

import asyncio
import statistics
import time
from collections.abc import Callable, Coroutine
from dataclasses import dataclass

Subject = Callable[[int], float]
"""Does an operation a number of times, and returns the nanoseconds that one took."""


@dataclass(frozen=True)
class Result:
    """The result of a case.

    Attributes:
        case: its name.
        unit: what one operation is.
        values: for each subject, what one operation takes: the median.
        ratios: for each subject but the first, the median of the first's value divided by its.
        measure: what the values are: "us", "instructions" or "bytes".
    """

    case: str
    unit: str
    values: dict[str, float]
    ratios: dict[str, float]
    measure: str = "us"


def compare(
    case: str, unit: str, subjects: dict[str, Subject], *, times: int, rounds: int
) -> Result:
    """Run the subjects in turn, so that a slowdown of the machine affects them all.

    Args:
        case: the case's name.
        unit: what one operation is.
        subjects: what to compare; a ratio is the first one's time divided by another's.
        times: how often each subject does its operation in a round.
        rounds: how many rounds to count, after one that is not counted.
    """
    samples: dict[str, list[float]] = {name: [] for name in subjects}
    for number in range(rounds + 1):
        for name, subject in subjects.items():
            took = subject(times)
            if number:
                samples[name].append(took)
    first, *others = subjects
    return Result(
        case,
        unit,
        {name: statistics.median(values) / 1000 for name, values in samples.items()},
        {
            name: statistics.median(
                a / b for a, b in zip(samples[first], samples[name], strict=True)
            )
            for name in others
        },
    )


def timed(operation: Callable[[], object]) -> Subject:
    """Make a subject of a function that does the operation once."""

    def run(times: int) -> float:
        start = time.perf_counter_ns()
        for _ in range(times):
            operation()
        return (time.perf_counter_ns() - start) / times

    return run


def timed_whole(operation: Callable[[int], object]) -> Subject:
    """Make a subject of a function that does the operation as often as its argument says."""

    def run(times: int) -> float:
        start = time.perf_counter_ns()
        operation(times)
        return (time.perf_counter_ns() - start) / times

    return run


def timed_in(
    runner: asyncio.Runner, operation: Callable[[int], Coroutine[None, None, None]]
) -> Subject:
    """Make a subject of a coroutine function, timed inside the running event loop."""

    async def timed(times: int) -> float:
        start = time.perf_counter_ns()
        await operation(times)
        return (time.perf_counter_ns() - start) / times

    return lambda times: runner.run(timed(times))


def only(
    timed_part: Subject,
    *,
    before: Callable[[int], object] | None = None,
    after: Callable[[int], object] | None = None,
) -> Subject:
    """Make a subject that runs a sequence, and times one part of it."""

    def run(times: int) -> float:
        if before:
            before(times)
        took = timed_part(times)
        if after:
            after(times)
        return took

    return run

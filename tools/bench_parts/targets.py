"""The targets of the benchmarks."""

from collections.abc import Iterator, Sequence

from bench_parts import preloaded
from bench_parts.local import FAKE_MEMORY
from bench_parts.measure import Result
from bench_parts.real import ONE_EVENT_WITH
from bench_parts.userspace import COUNTED, TIMED

# By subject: the least ratio of the bare calls' time in user space to the subject's.
USER_SPACE_LEAST = {
    "this, wait/unmask": 1 / 3.2,
    "this, wait(unmask=)": 1 / 2.6,
    "this, events()": 1 / 1.6,
    "this, async for": 1 / 2.4,
    "this, await read()": 1 / 4.2,
    "this, await wait()": 1 / 5.5,
}

# By case and subject: the least ratio of the case's first value to the subject's.
LEAST = {
    ("drain 1,000 ports", "this, wait/unmask"): 40.0,
    ("drain 1,000 ports", "this, events()"): 10.0,
    ("drain 1,000 ports", "this, asyncio"): 5.0,
    ("notify 1,000 ports", "this, notify_many"): 1 / 1.05,
    ("one event", "this, wait(unmask=)"): 1 / 1.25,
    ("one event", "this, await read()"): 1 / 1.5,
    ("bind and close 1,000 pairs", "this"): 1 / 1.4,
    **{
        (case, name): least for case in (COUNTED, TIMED) for name, least in USER_SPACE_LEAST.items()
    },
}

# The same: the greatest ratio.
MOST = {
    ("the fake's cycle with 1 ports bound", "socketpair"): 3.2,
    ("the fake's cycle with 100,001 ports bound", "socketpair"): 3.2,
    ("an event on the shared fake", "echo"): 5.0,
    ("start the command", "import click"): 2.5,
    (preloaded.CYCLE, "three echoes"): 1.6,
}

# By case: the greatest first value.
FIRST_MOST = {FAKE_MEMORY: 600, preloaded.OPEN: 1_000}

# By case: the most that the first value may exceed the second by.
OVER_MOST = {"import": 12_000, preloaded.READ: 0.3}

# The least quotient of an event's ratio with the most ports bound by that with the fewest.
GROWTH_LEAST = 0.8


def missed(results: Sequence[Result]) -> list[str]:
    """Return the targets that the results miss, a line each."""
    lines = []
    for result in results:
        for name, ratio in result.ratios.items():
            least = LEAST.get((result.case, name), 0.0)
            most = MOST.get((result.case, name), float("inf"))
            if not least <= ratio <= most:
                wanted = f"at least {least:.2f}" if ratio < least else f"at most {most:.2f}"
                lines.append(f"missed: {result.case}, {name}: {ratio:.2f}, not {wanted}")
        lines += _values_missed(result)
    growth = [r.ratios["this"] for r in results if r.case.startswith(ONE_EVENT_WITH)]
    if growth and growth[-1] < GROWTH_LEAST * growth[0]:
        lines.append(
            f"missed: growth: {growth[-1]:.2f} with the most ports, {growth[0]:.2f} before"
        )
    return lines


def _values_missed(result: Result) -> Iterator[str]:
    first, *others = result.values.values()
    for value, most in (
        (first, FIRST_MOST.get(result.case)),
        (first - others[0] if others else 0.0, OVER_MOST.get(result.case)),
    ):
        if most is not None and value > most:
            yield f"missed: {result.case}: {value:.2f} {result.measure}, not at most {most:g}"

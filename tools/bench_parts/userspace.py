"""The cost of an event in user space, on a stand-in for the driver that answers at once.

As a program, on the stand-in, it runs one part: ``userspace count SUBJECT EVENTS`` goes through
that many events, for callgrind to count; ``userspace time ROUNDS [PROGRAM]`` times all subjects and
writes the result as JSON.
"""

import asyncio
import dataclasses
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Coroutine, Iterator
from contextlib import ExitStack, closing
from functools import partial
from pathlib import Path

from bench_parts.measure import Result, Subject, compare, timed_in, timed_whole
from bench_parts.subjects import Bare, CLibrary, Library, Plain

COUNTED, TIMED = "one event in user space, counted", "one event in user space, timed"
UNIT = "notify, receive, unmask"

# By subject: what goes through a number of events, one after the other.
BLOCKING: dict[str, Callable[[Library, int], object]] = {
    "this, wait/unmask": Library.by_wait_and_unmask,
    "this, wait(unmask=)": Library.by_wait,
    "this, events()": Library.by_loop,
}
IN_ASYNCIO: dict[str, Callable[[Library, int], Coroutine[None, None, None]]] = {
    "this, async for": Library.by_async_loop,
    "this, await read()": Library.by_async_read,
    "this, await wait()": Library.by_async_wait,
}
BARE, FCNTL, C_LIBRARY = "bare calls", "fcntl", "C library"

# Each count is made with two numbers of events: the difference does not include the start.
_FEW, _MANY = 500, 3000

# How many events are timed at once.
_SAMPLE = 20_000


def run(folder: Path, program: Path | None, rounds: int) -> Iterator[Result]:
    """Run the cases, the bare calls first in each.

    Args:
        folder: where to build the stand-in.
        program: the compiled C program; None leaves the C library out.
        rounds: how many rounds to time.
    """
    standin = folder / "standin.so"
    source = Path(__file__).with_name("standin.c")
    subprocess.run(
        ["cc", "-O2", "-Wall", "-Werror", "-shared", "-fPIC", "-o", standin, source], check=True
    )
    if shutil.which("valgrind"):
        yield _count(standin, program)
    else:
        print("\nno valgrind: instructions are not counted", file=sys.stderr)
    timed = _on(standin, *_part("time", str(rounds)), *([program] if program else []))
    yield Result(**json.loads(timed.stdout))


def _count(standin: Path, program: Path | None) -> Result:
    subjects = [BARE, *BLOCKING, *IN_ASYNCIO, FCNTL]
    values = {name: _instructions(standin, *_part("count", name)) for name in subjects}
    if program:
        values[C_LIBRARY] = _instructions(standin, program)
    ratios = {name: values[BARE] / value for name, value in values.items() if name != BARE}
    return Result(COUNTED, UNIT, values, ratios, measure="instructions")


def _part(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "bench_parts.userspace", *arguments]


def _instructions(standin: Path, *command: str | Path) -> float:
    """Return how many instructions an event takes."""
    few, many = (_collected(standin, command, events) for events in (_FEW, _MANY))
    return (many - few) / (_MANY - _FEW)


def _collected(standin: Path, command: tuple[str | Path, ...], events: int) -> int:
    """Return how many instructions a process takes for a number of events, and to start."""
    callgrind = ["valgrind", "--tool=callgrind", "--callgrind-out-file=/dev/null"]
    # The C program gets the number by its input, the others by an argument.
    ran = _on(standin, *callgrind, *command, str(events), stdin=f"setup 1\nevent {events}\n")
    found = re.search(r"Collected *: (\d+)", ran.stderr)
    if found is None:
        raise RuntimeError(f"callgrind counted nothing: {ran.stderr}")
    return int(found[1])


def _on(standin: Path, *command: str | Path, stdin: str = "") -> "subprocess.CompletedProcess[str]":
    """Run a command on the stand-in to its end."""
    return subprocess.run(
        command,
        env={**os.environ, "LD_PRELOAD": str(standin), "PYTHONHASHSEED": "0"},
        input=stdin,
        cwd=Path(__file__).parents[1],
        capture_output=True,
        text=True,
        check=True,
    )


def _go_through(subject: str, events: int) -> None:
    if subject == FCNTL:
        with closing(Plain(1)) as plain:
            plain.one_by_one(events)
        return
    with closing(Library(1)) as library:
        if subject == BARE:
            Bare(library).one_by_one(events)
        elif subject in BLOCKING:
            BLOCKING[subject](library, events)
        else:
            asyncio.run(IN_ASYNCIO[subject](library, events))


def _time(rounds: int, program: str | None) -> Result:
    with ExitStack() as stack:
        library = stack.enter_context(closing(Library(1)))
        loop = stack.enter_context(asyncio.Runner())
        subjects: dict[str, Subject] = {BARE: timed_whole(Bare(library).one_by_one)}
        for name, go_through in BLOCKING.items():
            subjects[name] = timed_whole(partial(go_through, library))
        for name, coroutine in IN_ASYNCIO.items():
            subjects[name] = timed_in(loop, partial(coroutine, library))
        if program:
            c = stack.enter_context(closing(CLibrary(program)))
            c.run("setup", 1)
            subjects[C_LIBRARY] = c.subject("event")
        return compare(TIMED, UNIT, subjects, times=_SAMPLE, rounds=rounds)


def main() -> None:
    """Run one part."""
    part, *arguments = sys.argv[1:]
    if part == "count":
        _go_through(arguments[0], int(arguments[1]))
    else:
        result = _time(int(arguments[0]), arguments[1] if arguments[1:] else None)
        print(json.dumps(dataclasses.asdict(result)))


if __name__ == "__main__":
    main()

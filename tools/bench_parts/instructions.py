"""What a round trip costs in user space, in instructions: callgrind counts the same loops.

Run as a program it is such a loop: instructions SUBJECT TIMES.
"""

import os
import re
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

from bench_parts.measure import Result
from bench_parts.subjects import Bare, Library, Plain

SUBJECTS: dict[str, Callable[[int], Library | Bare | Plain]] = {
    "this": Library,
    "bare calls": Bare,
    "fcntl": Plain,
}

# Two lengths of each loop: their difference has nothing of the start.
_FEW, _MANY = 500, 1500


def count(folder: Path, program: Path) -> Result:
    """Count the instructions of a round trip, for the C library and from Python.

    Args:
        folder: where to build the stand-in for the driver.
        program: the compiled C program.
    """
    standin = folder / "standin.so"
    source = Path(__file__).with_name("standin.c")
    subprocess.run(
        ["cc", "-O2", "-Wall", "-Werror", "-shared", "-fPIC", "-o", standin, source], check=True
    )
    values = {"C library": _per_round_trip(standin, program)}
    for subject in SUBJECTS:
        values[subject] = _per_round_trip(
            standin, sys.executable, "-m", "bench_parts.instructions", subject
        )
    return Result(
        "round trip, in user space alone",
        "there and back",
        values,
        {name: values["C library"] / value for name, value in values.items()},
        measure="instructions",
    )


def _per_round_trip(standin: Path, *command: str | Path) -> float:
    few, many = (_collected(standin, command, times) for times in (_FEW, _MANY))
    return (many - few) / (_MANY - _FEW)


def _collected(standin: Path, command: tuple[str | Path, ...], times: int) -> int:
    """Run a loop so many times and return how many instructions the whole process took."""
    ran = subprocess.run(
        ["valgrind", "--tool=callgrind", "--callgrind-out-file=/dev/null", *command, str(times)],
        env={**os.environ, "LD_PRELOAD": str(standin), "PYTHONHASHSEED": "0"},
        input=f"setup 1\nround_trip {times}\n",
        cwd=Path(__file__).parents[1],
        capture_output=True,
        text=True,
        check=True,
    )
    found = re.search(r"Collected *: (\d+)", ran.stderr)
    if found is None:
        raise RuntimeError(f"callgrind told nothing: {ran.stderr}")
    return int(found[1])


def main() -> None:
    """Run a loop."""
    with closing(SUBJECTS[sys.argv[1]](1)) as subject:
        for _ in range(int(sys.argv[2])):
            subject.round_trip()


if __name__ == "__main__":
    main()

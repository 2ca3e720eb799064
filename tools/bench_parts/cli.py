"""The command line of tools/bench: which cases to run, where, and where the results go."""

import argparse
import dataclasses
import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from bench_parts import local, preloaded, report, targets, userspace
from bench_parts.measure import Result
from bench_parts.subjects import compile_c

ROOT = Path(__file__).parents[2]
DEVICE_NODE = Path("/dev/xen/evtchn")


def main() -> int:
    """Run the benchmarks; return 1 if --check found a missed target."""
    parser = argparse.ArgumentParser(
        prog="tools/bench",
        description="Compare this library with the C library, on a real device, and the fake"
        " with a socketpair. If there is no device, the real cases run in tools/xenvm.",
    )
    parser.add_argument("--local", action="store_true", help="only the cases that need no Xen")
    parser.add_argument("--rounds", type=int, default=9, help="how many rounds to count [9]")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the results there")
    parser.add_argument(
        "--page",
        type=Path,
        metavar="FILE",
        help="also write them between the marks of this Markdown page, and growth.svg beside it",
    )
    parser.add_argument("--check", action="store_true", help="fail if a target is missed")
    arguments = parser.parse_args()

    machine = report.host()
    print(f"{machine}, {arguments.rounds} rounds")
    results = []
    for line in _run(arguments.rounds, real_too=not arguments.local):
        if isinstance(line, str):
            machine = f"{line}, on {machine}"
            print(f"\n{line}")
        else:
            results.append(line)
            print(report.text(line))
    if arguments.json:
        text = json.dumps([dataclasses.asdict(result) for result in results], indent=1)
        arguments.json.write_text(text + "\n")
    if arguments.page:
        report.write_page(arguments.page, machine, results)
    missed = targets.missed(results) if arguments.check else []
    print(*missed, sep="\n", file=sys.stderr)
    return 1 if missed else 0


def _run(rounds: int, *, real_too: bool) -> Iterator[str | Result]:
    """Run the cases; yield the results, and a real device's machine before its results."""
    build = ROOT / "build"
    build.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="bench-", dir=build) as name:
        folder = Path(name)
        program = compile_c("clib", folder) if real_too else None
        yield from userspace.run(folder, program, rounds)
        yield from local.run(rounds)
        yield from preloaded.run(rounds)
        if program:
            yield from _real(program, rounds)


def _real(program: Path, rounds: int) -> Iterator[str | Result]:
    command = [sys.executable, "-m", "bench_parts.real", str(program), str(rounds)]
    if not DEVICE_NODE.exists():
        # On several processors, events of a port on another one come later, and which ports these
        # are is chance.
        command = [str(ROOT / "tools/xenvm"), "--vcpus=1", "--timeout=1800", "--", *command]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, text=True, cwd=ROOT / "tools"
    ) as process:
        for line in process.stdout or ():
            found = json.loads(line)
            yield found if isinstance(found, str) else Result(**found)
    if process.returncode:
        sys.exit(f"the real cases failed: {command[0]} ended with {process.returncode}")

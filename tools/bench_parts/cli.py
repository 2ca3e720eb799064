"""The command line of tools/bench: which cases to run, where, and what to make of the results."""

import argparse
import dataclasses
import json
import platform
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from bench_parts import local, real
from bench_parts.measure import Result

ROOT = Path(__file__).parents[2]
DEVICE_NODE = Path("/dev/xen/evtchn")

# What has to hold, by case and subject: the least that the first subject's time divided by the
# other's may be.
LEAST = {
    ("drain 1,000 ports", "this, wait/unmask"): 40.0,
    ("drain 1,000 ports", "this, events()"): 20.0,
    ("drain 1,000 ports", "this, asyncio"): 10.0,
    ("notify 1,000 ports", "this, notify_many"): 1 / 1.05,
    ("round trip", "this"): 1 / 1.05,
    ("round trip", "this, asyncio"): 1 / 1.5,
    ("bind and close 1,000 pairs", "this"): 1 / 1.1,
}
# The most that it may be.
MOST = {
    ("the fake's cycle with 1 ports bound", "socketpair"): 5.0,
    ("the fake's cycle with 100,001 ports bound", "socketpair"): 5.0,
    ("an event on the shared fake", "echo"): 6.0,
    ("start the command", "import click"): 2.5,
}
# The most nanoseconds that one may take: of the case's first subject, with nothing beside it.
SLOWEST = {"watch --json, 100 ports": 50_000.0}


def main() -> int:
    """Run the benchmarks; return 1 where --check found a ratio missed."""
    parser = argparse.ArgumentParser(
        prog="tools/bench",
        description="Benchmark this library beside the C library, on a real device, and the fake"
        " beside a socketpair. Where there is no device, the real cases run in tools/xenvm.",
    )
    parser.add_argument("--local", action="store_true", help="only the cases that need no Xen")
    parser.add_argument("--rounds", type=int, default=9, help="how many rounds to count [9]")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the results there as well")
    parser.add_argument("--check", action="store_true", help="fail where a ratio is missed")
    arguments = parser.parse_args()

    print(f"{platform.machine()}, Python {platform.python_version()}, {arguments.rounds} rounds")
    results = []
    for result in _results(arguments.rounds, everything=not arguments.local):
        results.append(result)
        _show(result)
    if arguments.json:
        text = json.dumps([dataclasses.asdict(result) for result in results], indent=1)
        arguments.json.write_text(text + "\n")
    missed = [line for result in results for line in _missed(result)]
    if arguments.check:
        print(*missed, sep="\n", file=sys.stderr)
    return 1 if arguments.check and missed else 0


def _results(rounds: int, *, everything: bool) -> Iterator[Result]:
    yield from local.run(rounds)
    if not everything:
        return
    build = ROOT / "build"
    build.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="bench-", dir=build) as folder:
        program = Path(folder, "clib")
        source = Path(real.__file__).with_name("clib.c")
        subprocess.run(
            ["cc", "-O2", "-Wall", "-Werror", "-o", program, source, "-lxenevtchn"], check=True
        )
        command = [sys.executable, "-m", "bench_parts.real", str(program), str(rounds)]
        if not DEVICE_NODE.exists():
            command = [str(ROOT / "tools/xenvm"), "--timeout", "1800", "--", *command]
        with subprocess.Popen(
            command, stdout=subprocess.PIPE, text=True, cwd=ROOT / "tools"
        ) as process:
            for line in process.stdout or ():
                yield Result(**json.loads(line))
        if process.returncode:
            sys.exit(
                f"the real cases failed: {shutil.which(command[0])} ended with {process.returncode}"
            )


def _show(result: Result) -> None:
    print(f"\n{result.case} (per {result.unit})")
    for name, nanoseconds in result.nanoseconds.items():
        ratio = result.ratios.get(name)
        beside = "" if ratio is None else f"  {ratio:8.2f}"
        print(f"  {name:24} {nanoseconds / 1000:12.2f} us{beside}")


def _missed(result: Result) -> Iterator[str]:
    for name, ratio in result.ratios.items():
        least = LEAST.get((result.case, name), 0.0)
        most = MOST.get((result.case, name), float("inf"))
        if not least <= ratio <= most:
            wanted = f"at least {least:.2f}" if ratio < least else f"at most {most:.2f}"
            yield f"missed: {result.case}, {name}: {ratio:.2f}, not {wanted}"
    first, *_ = result.nanoseconds.values()
    if first > (most := SLOWEST.get(result.case, float("inf"))):
        yield f"missed: {result.case}: {first / 1000:.2f} us, not at most {most / 1000:.2f}"

"""The command line of xentest."""

import argparse
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import takewhile

from .matrix import MACHINES
from .page import write_page
from .replay import replay
from .run import Result, run, save, saved

# A machine with one vCPU uses one processor; one with more runs alone.
_AT_ONCE = 2

_REPLAY = "--replay="

_DESCRIPTION = """\
Run the tests on the real device, in machines of tools/xenvm. With names, or "all", run all tests of
those machines; without names, run the gate's. The options after the names are for pytest. Two
machines with one vCPU run at a time; their output is in build/xen.

With --replay, compare the fake with the driver in N random sequences of calls in each machine: they
are recorded on the fake, and replayed by a C program. With --page, write docs/reference/tested.md
from the last results of all machines.
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the tests in the machines that are named; return 0 if all have passed."""
    words = sys.argv[1:] if arguments is None else list(arguments)
    if words[:1] in (["-h"], ["--help"]):
        _help()
        return 0
    if words == ["--page"]:
        return _page()
    sequences = ""
    if words and words[0].startswith(_REPLAY):
        sequences = words.pop(0).removeprefix(_REPLAY)
        if not (sequences.isdecimal() and int(sequences) and words):
            print("xentest: --replay=N needs a number and names: see --help", file=sys.stderr)
            return 2
    names = list(takewhile(lambda word: not word.startswith("-"), words))
    for_pytest = words[len(names) :]
    if names == ["all"]:
        names = list(MACHINES)
    unknown = [name for name in names if name not in MACHINES]
    if unknown:
        print(f"xentest: no machine {' '.join(unknown)}: see --help", file=sys.stderr)
        return 2
    if sequences:
        return _replay(int(sequences), names)
    return _run(names, for_pytest)


def _run(names: Sequence[str], for_pytest: Sequence[str]) -> int:
    tests = {name: MACHINES[name].tests for name in names} or {
        name: machine.gate for name, machine in MACHINES.items() if machine.gate
    }

    def run_one(name: str) -> Result:
        result = run(name, MACHINES[name].options, [*tests[name], *for_pytest])
        if names and not for_pytest:
            save(result)
        return result

    large = [name for name in tests if MACHINES[name].vcpus > 1]
    results = [run_one(name) for name in large]
    with ThreadPoolExecutor(_AT_ONCE) as pool:
        try:
            results += pool.map(run_one, [name for name in tests if name not in large])
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise
    print("", *results, sep="\n", flush=True)
    return int(any(result.problem for result in results))


def _replay(sequences: int, names: Sequence[str]) -> int:
    unfit = [name for name in names if not MACHINES[name].is_x86_dom0]
    if unfit:
        print(f"xentest: {' '.join(unfit)}: --replay is for dom0s on x86", file=sys.stderr)
        return 2
    # One after the other: another processor records what the machine replays.
    statuses = [replay(name, (*MACHINES[name].kind, "--vcpus=1"), sequences) for name in names]
    return int(any(statuses))


def _page() -> int:
    results = [result for name in MACHINES if (result := saved(name)) and not result.problem]
    if len(results) < len(MACHINES):
        lacking = MACHINES.keys() - {result.name for result in results}
        print(
            f"xentest: {', '.join(sorted(lacking))} have not passed all tests: run tools/xentest "
            "with these names first",
            file=sys.stderr,
        )
        return 1
    write_page(results)
    return 0


def _help() -> None:
    parser = argparse.ArgumentParser(
        prog="tools/xentest",
        usage="%(prog)s [all | NAME ...] [PYTEST_OPTION ...] | --replay=N NAME ... | --page",
        description=_DESCRIPTION,
        epilog="\n".join(
            ["machines:", *(f"  {name:14} {machine.about}" for name, machine in MACHINES.items())]
        ),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.print_help()

"""The command line of xentest."""

import argparse
import sys
from collections.abc import Sequence
from itertools import takewhile

from .matrix import MACHINES
from .page import write_page
from .run import run

_DESCRIPTION = """\
Run the tests on the real device, in machines of tools/xenvm: those that are named; "all" of them,
which then writes docs/reference/tested.md; or, where none is named, what the gate runs. What comes
after the names is for pytest.
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the tests in the machines that are named; return 0 if all have passed."""
    words = sys.argv[1:] if arguments is None else list(arguments)
    if words[:1] in (["-h"], ["--help"]):
        _help()
        return 0
    names = list(takewhile(lambda word: not word.startswith("-"), words))
    for_pytest = words[len(names) :]
    everything = names == ["all"]
    if everything:
        names = list(MACHINES)
    unknown = [name for name in names if name not in MACHINES]
    if unknown:
        print(f"xentest: no machine {' '.join(unknown)}: see --help", file=sys.stderr)
        return 2
    tests = {name: MACHINES[name].tests for name in names} or {
        name: machine.gate for name, machine in MACHINES.items() if machine.gate
    }
    results = [run(name, MACHINES[name].options, tests[name], for_pytest) for name in tests]
    print("", *results, sep="\n", flush=True)
    failed = any(result.problem for result in results)
    if everything and not failed:
        write_page(results)
    return int(failed)


def _help() -> None:
    parser = argparse.ArgumentParser(
        prog="tools/xentest",
        usage="%(prog)s [all | NAME ...] [PYTEST_OPTION ...]",
        description=_DESCRIPTION,
        epilog="\n".join(
            ["machines:", *(f"  {name:14} {machine.about}" for name, machine in MACHINES.items())]
        ),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.print_help()

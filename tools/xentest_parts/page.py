"""The page that says what the tests were last run on."""

import subprocess
from collections.abc import Sequence

from .matrix import MACHINES
from .run import ROOT, Result

_PAGE = ROOT / "docs/reference/tested.md"

_TEXT = """\
# What it is tested on

`tools/test --xen all` runs the tests on the real driver, in machines of every kind of Xen that QEMU
can be: real hypervisors, real kernels, emulated processors ({qemu}). `tools/xentest --page` has
written this page from the results.

| machine | what it is | Linux | Xen | passed | skipped | seconds | on |
|---|---|---|---|---:|---:|---:|---|
{rows}

`tools/test --xen NAME` runs one of them, `tools/xenvm` any command in such a machine, with these
options:

| machine | `tools/xenvm` | pytest |
|---|---|---|
{options}

A test that cannot be run in its machine fails, but for those of a domain that the machine is not:
what needs a toolstack is for dom0.
"""


def write_page(results: Sequence[Result]) -> None:
    """Write the page anew, from the results of all machines."""
    emulator = subprocess.check_output(["qemu-system-x86_64", "--version"], text=True)
    rows = [
        f"| {result.name} | {MACHINES[result.name].about} | {result.linux} | {result.xen} "
        f"| {result.passed} | {result.skipped} | {result.seconds} | {result.date} |"
        for result in results
    ]
    options = [
        f"| {name} | `{' '.join(machine.options)}` | `{' '.join(machine.tests)}` |"
        for name, machine in MACHINES.items()
    ]
    _PAGE.write_text(
        _TEXT.format(
            qemu=" ".join(emulator.split()[:1] + emulator.split()[3:4]),
            rows="\n".join(rows),
            options="\n".join(options),
        )
    )

"""The page with the last results of each machine."""

import subprocess
from collections.abc import Sequence

from .matrix import MACHINES
from .run import ROOT, Result

_PAGE = ROOT / "docs/reference/tested.md"

_TEXT = """\
# What it is tested on

`tools/test --xen all` runs the tests on the real driver, in these machines: real hypervisors and
kernels on emulated processors ({qemu}). `tools/xentest --page` wrote this page from the results.

| machine | what it is | Linux | Xen | passed | skipped | seconds | on |
|---|---|---|---|---:|---:|---:|---|
{rows}

`tools/test --xen NAME` runs one of them, `tools/xenvm` any command in such a machine, with these
options:

| machine | `tools/xenvm` | pytest |
|---|---|---|
{options}

A test that cannot run in its machine fails. Tests for another kind of domain are left out: those
with a toolstack are for dom0.
"""


def write_page(results: Sequence[Result]) -> None:
    """Write the page from the results of all machines."""
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

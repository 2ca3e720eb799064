"""xenevtchn top: who gets how many events."""

import json
import os
import shutil
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import click

from . import formats
from .interrupts import Counter, Usage, compare, parse
from .output import bold, printable, say

INTERRUPTS = Path("/proc/interrupts")
INTERVAL = 1.0

_CLEAR = "\x1b[H\x1b[J"


@click.command()
@click.option("--once", is_flag=True, help="Show the first second alone.")
@click.option("--json", "as_json", is_flag=True, help="Write a JSON object on each line instead.")
def top(*, once: bool, as_json: bool) -> None:
    """Show who gets how many events, the busiest first.

    The kernel's own counters are read each second, in /proc/interrupts: so it shows every program
    of this domain that holds event channels, and costs none of them anything. The device plays no
    part. An owner is the name of the program that opened the handle; several of one name are one
    owner. The total is that of its present ports, since they were bound.

    On a terminal it is refreshed in place, until Ctrl-C; elsewhere there is a table each second.

    The object of --json; events are those of so many seconds:

    \b
    {"time": "...", "seconds": 1.000042,
     "owners": [{"owner": "xenstored", "ports": 2, "events": 118, "total": 20714}, ...]}

    It is one line.
    """  # noqa: D301 - click's mark of what is not to be wrapped
    show(INTERRUPTS, once=once, as_json=as_json)


def show(path: Path, *, once: bool, as_json: bool) -> None:
    """Compare the counters in the file each second and write what came."""
    now = formats.clock(formats.LOCALTIME)
    in_place = sys.stdout.isatty() and not (once or as_json or os.environ.get("TERM") == "dumb")
    before, since = _read(path), time.monotonic()
    while True:
        time.sleep(max(0.0, since + INTERVAL - time.monotonic()))
        after, moment = _read(path), time.monotonic()
        usages, seconds = compare(before, after), moment - since
        if as_json:
            say(_object(now(), seconds, usages))
        else:
            lines = _table(now(), seconds, usages)
            if in_place:
                # Plain text is as wide as it looks, so it is cut before it is coloured.
                size = shutil.get_terminal_size()
                lines = [line[: size.columns] for line in lines[: size.lines - 1]]
            lines[1:2] = map(bold, lines[1:2])
            if in_place:
                sys.stdout.write(_CLEAR)
            say("\n".join(lines))
        if once:
            return
        before, since = after, moment


def _read(path: Path) -> list[Counter]:
    return parse(path.read_text(errors="surrogateescape"))


def _table(now: formats.Time, seconds: float, usages: Sequence[Usage]) -> list[str]:
    ports = sum(usage.ports for usage in usages)
    rate = sum(usage.events for usage in usages) / seconds
    names = [printable(usage.owner) for usage in usages]
    width = max(map(len, ["OWNER", *names]))
    return [
        f"{now}  {len(usages)} owners, {ports} ports, {rate:.1f} events/s",
        f"{'OWNER':{width}}  {'PORTS':>6}  {'EVENTS/S':>10}  {'TOTAL':>12}",
        *(
            f"{name:{width}}  {usage.ports:6}  {usage.events / seconds:10.1f}  {usage.total:12}"
            for name, usage in zip(names, usages, strict=True)
        ),
    ]


def _object(now: formats.Time, seconds: float, usages: Sequence[Usage]) -> str:
    owners = [usage._asdict() for usage in usages]
    return json.dumps({"time": now, "seconds": round(seconds, 6), "owners": owners})

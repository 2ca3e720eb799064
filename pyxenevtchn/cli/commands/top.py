"""xenevtchn top: who gets how many events."""

import json
import os
import shutil
import sys
import time
from collections.abc import Callable, Sequence

import click

from ...fake import names
from ...fake.server.remote import RemoteHypervisor
from .. import interrupts
from ..events import formats
from ..interrupts import Counter, Usage, compare
from ..options import device_option, examples, is_fake
from ..output import bold, printable, say, warn

_INTERVAL = 1.0

_CLEAR = "\x1b[H\x1b[J"


@click.command(epilog=examples("top", "top --once --json"))
@click.option("--once", is_flag=True, help="Show only the first second.")
@click.option("--json", "as_json", is_flag=True, help="Write a JSON object on each line instead.")
@device_option
def top(*, once: bool, as_json: bool, device: str) -> None:
    """Show who gets how many events, the busiest first.

    It reads the kernel's counters in /proc/interrupts each second. So it shows every program of
    this domain that holds event channels, without any cost for them. With fake:unix:PATH, it shows
    the programs that have that fake open; with ?domid=N, those in that domain.

    An owner is the name of the program that opened the handle; programs of the same name are one
    owner. The total counts the events of the owner's present ports since they were bound.

    On a terminal it is refreshed in place, until Ctrl-C; elsewhere there is a table each second.

    The object of --json; events are those in the given seconds:

    \b
    {"time": "...", "seconds": 1.000042,
     "owners": [{"owner": "xenstored", "ports": 2, "events": 118, "total": 20714}, ...]}

    It is one line.
    """  # noqa: D301 - click's mark of a paragraph not to wrap
    read = _reader(device)
    now = formats.clock(formats.LOCALTIME)
    in_place = sys.stdout.isatty() and not (once or as_json or os.environ.get("TERM") == "dumb")
    before, since = read(), time.monotonic()
    while True:
        time.sleep(max(0.0, since + _INTERVAL - time.monotonic()))
        after, moment = read(), time.monotonic()
        usages, seconds = compare(before, after), moment - since
        if as_json:
            say(_object(now(), seconds, usages))
        else:
            lines = _table(now(), seconds, usages)
            if in_place:
                # Cut the text before it is coloured: only plain text is as wide as it looks.
                size = shutil.get_terminal_size()
                lines = [line[: size.columns] for line in lines[: size.lines - 1]]
            lines[1:2] = map(bold, lines[1:2])
            if in_place:
                sys.stdout.write(_CLEAR)
            say("\n".join(lines))
        if once:
            return
        before, since = after, moment


def _reader(device: str) -> Callable[[], list[Counter]]:
    """Return a function that reads the counters of all programs that have the device open."""
    if not is_fake(device):
        if not interrupts.read():
            warn(
                f"{interrupts.PATH} has no event channel (evtchn:NAME): no program of this domain"
                " holds one, or this is not Xen; see `xenevtchn doctor`"
            )
        return interrupts.read
    path, domid = names.parse(device)
    if path is None:
        raise click.ClickException(
            "a fake in this process has no other owners: name that of a server, fake:unix:PATH"
        )
    hypervisor = RemoteHypervisor(path)
    return lambda: [Counter(*row) for row in hypervisor.interrupts(domid)]


def _table(now: formats.Time, seconds: float, usages: Sequence[Usage]) -> list[str]:
    ports = sum(usage.ports for usage in usages)
    rate = sum(usage.events for usage in usages) / seconds
    names = [printable(usage.owner) for usage in usages]
    width = max(map(len, ["OWNER", *names]))
    return [
        f"{now}  owners: {len(usages)}  ports: {ports}  events/s: {rate:.1f}",
        f"{'OWNER':{width}}  {'PORTS':>6}  {'EVENTS/S':>10}  {'TOTAL':>12}",
        *(
            f"{name:{width}}  {usage.ports:6}  {usage.events / seconds:10.1f}  {usage.total:12}"
            for name, usage in zip(names, usages, strict=True)
        ),
    ]


def _object(now: formats.Time, seconds: float, usages: Sequence[Usage]) -> str:
    owners = [usage._asdict() for usage in usages]
    return json.dumps({"time": now, "seconds": round(seconds, 6), "owners": owners})

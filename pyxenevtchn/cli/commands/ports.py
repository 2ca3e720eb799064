"""xenevtchn ports: a domain's ports, and who holds this domain's."""

import contextlib
import dataclasses
import json
import os
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

import click

from ...abi import DOMID_SELF, virq_name
from ...fake import names, preload
from ...fake.server.remote import RemoteHypervisor
from ...holders import Process, processes
from ...ports import Port
from .. import interrupts
from ..options import DOMID, device_option, examples, is_fake
from ..output import printable, say, say_table

_HEAD = ("PORT", "VCPU", "STATE", "REMOTE", "IRQ", "NOTES")
_PROGRAMS_HEAD = ("PROGRAM", "PORTS", "PIDS")


class Program(NamedTuple):
    """A program of this domain that has the device open; programs of the same name are one.

    Attributes:
        name: its name, at most 15 bytes.
        ports: how many ports it holds.
        pids: its processes that have the device open, if this user may see them.
    """

    name: str
    ports: int
    pids: tuple[int, ...]


class Table(NamedTuple):
    """What is known of a domain.

    Attributes:
        domid: its domid; None for this domain on a real Xen, which does not tell it.
        ports: its ports.
        programs: the programs there that have the device open; None if they are not known.
    """

    domid: int | None
    ports: tuple[Port, ...]
    programs: list[Program] | None


@click.command(epilog=examples("ports", "ports 3 --json"))
@click.argument("domid", type=DOMID, default="self")
@click.option("--json", "as_json", is_flag=True, help="Write one JSON object instead.")
@device_option
def ports(domid: int, *, as_json: bool, device: str) -> None:
    """List a domain's ports, as Xen has them.

    The domain is DOMID, or this one. Xen is asked through /dev/xen/privcmd, which changes nothing
    and needs root in dom0. With a fake, this domain is the one in the device's name, and the list
    also tells what only a fake knows: who holds a port, and whether an event is pending.

    REMOTE is the other end, DOM:PORT, or the domain that may connect. IRQ is a VIRQ's number and
    name, or a physical interrupt's number. A port in the state xen is used by Xen itself.

    The programs of this domain that have the device open follow: how many ports each name holds,
    from /proc/interrupts, and its processes. The kernel does not tell which ports those are; it
    holds the other ports itself.

    The object of --json; what is not known is null:

    \b
    {"domid": 3, "ports": [{"port": 9, "state": "interdomain", "vcpu": 0,
       "remote_domid": 0, "remote_port": 41, "virq": null, "pirq": null,
       "pending": null, "masked": null, "kernel": null, "daemon": null,
       "static": null, "virq_name": null}, ...],
     "programs": [{"name": "xenstored", "ports": 2, "pids": [812]}, ...]}

    The domid is null for this domain on a real Xen, and programs for another domain. The states are
    unbound, interdomain, pirq, virq, ipi and xen. Only a fake knows the fields from pending on.
    """  # noqa: D301 - click's mark of a paragraph not to wrap
    # If a fake is at the real device's path, its Xen must be asked.
    name = device if is_fake(device) else os.environ.get(preload.VARIABLE, device)
    table = _fake(name, domid) if is_fake(name) else _real(name, domid)
    if as_json:
        say(_object(table))
    else:
        _say(table)


def _real(device: str, domid: int) -> Table:
    from ...privcmd import port_table  # noqa: PLC0415 - it loads the compiled code

    table = port_table(domid)
    if domid != DOMID_SELF:
        return Table(domid, table, None)
    users: list[Process] = []
    with contextlib.suppress(FileNotFoundError):
        users = processes(Path(device).stat().st_rdev)
    return Table(None, table, _programs((each.owner for each in interrupts.read()), users))


def _fake(name: str, domid: int) -> Table:
    path, own = names.parse(name)
    domid = own if domid == DOMID_SELF else domid
    if path is not None:
        server = RemoteHypervisor(path)
        table = server.ports(domid)
        return Table(domid, table, _programs(owner for _, owner, _ in server.interrupts(domid)))
    try:
        return Table(domid, names.default().ports(domid), [])
    except LookupError as error:
        raise click.ClickException(str(error)) from None


def _programs(owners: Iterable[str], users: Iterable[Process] = ()) -> list[Program]:
    """Return the programs, by name: the owners of ports, and the processes with the device."""
    counts = Counter(owners)
    pids: dict[str, list[int]] = {name: [] for name in counts}
    for process in users:
        pids.setdefault(process.name, []).append(process.pid)
    return [Program(name, counts[name], tuple(pids[name])) for name in sorted(pids)]


def _say(table: Table) -> None:
    rows = [_row(port) for port in table.ports]
    # On a real Xen there are no notes.
    width = len(_HEAD) if any(row[-1] for row in rows) else len(_HEAD) - 1
    say_table(_HEAD[:width], [row[:width] for row in rows])
    if table.programs:
        say("")
        say_table(
            _PROGRAMS_HEAD,
            [
                (printable(program.name), str(program.ports), ", ".join(map(str, program.pids)))
                for program in table.programs
            ],
        )


def _row(port: Port) -> tuple[str, ...]:
    remote = [str(n) for n in (port.remote_domid, port.remote_port) if n is not None]
    irq = "-" if port.pirq is None else str(port.pirq)
    if port.virq is not None:
        irq = f"{port.virq} {virq_name(port.virq)}"
    notes = {
        "kernel": port.kernel,
        port.daemon: port.daemon,
        "static": port.static,
        "pending": port.pending,
        "masked": port.masked,
    }
    return (
        *(str(port.port), str(port.vcpu), str(port.state), ":".join(remote) or "-", irq),
        ", ".join(str(word) for word, given in notes.items() if given),
    )


def _object(table: Table) -> str:
    rows = []
    for port in table.ports:
        name = None if port.virq is None else virq_name(port.virq)
        rows.append({**dataclasses.asdict(port), "virq_name": name})
    programs = None
    if table.programs is not None:
        programs = [program._asdict() for program in table.programs]
    return json.dumps({"domid": table.domid, "ports": rows, "programs": programs})

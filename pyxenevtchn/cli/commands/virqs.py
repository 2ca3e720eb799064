"""xenevtchn virqs: the VIRQs of Xen, and which are free."""

import contextlib
import errno
import os
from pathlib import Path

import click

from ...abi import KERNEL, Machine, Virq, virq_holder, virq_meaning
from ...channel import EventChannel
from ...fake.names import parse
from ...fake.server.remote import RemoteHypervisor
from ..options import device_option, examples, is_fake
from ..output import confirm, reason, say_table

_GUEST_TYPE = Path("/sys/hypervisor/guest_type")

_HEAD = ("NUMBER", "NAME", "SCOPE", "USUAL HOLDER", "MEANING")


@click.command(epilog=examples("virqs", "virqs --probe"))
@click.option("--probe", is_flag=True, help="Find out which are free in this domain.")
@device_option
def virqs(*, probe: bool, device: str) -> None:
    """List Xen's VIRQs, their usual holders and their meanings.

    A vcpu or domain VIRQ can be bound in each domain; a global one is raised only in dom0, unless
    the toolstack sets another domain. The usual holder is that in dom0, on a machine such as this
    or the fake's.

    --probe binds each VIRQ and unbinds it at once. On a real device it asks first: a program that
    starts at that moment could find its VIRQ bound.
    """
    machine = _machine(device)
    rows: list[tuple[str, ...]] = [
        (
            str(int(virq)),
            virq.name,
            str(virq.scope),
            _holder(virq, machine),
            virq_meaning(virq, machine),
        )
        for virq in Virq
    ]
    head: tuple[str, ...] = _HEAD
    if probe:
        if not is_fake(device):
            confirm(f"Bind and unbind each VIRQ on {device}?")
        states = _probe(device)
        head = (*_HEAD[:1], "STATE", *_HEAD[1:])
        rows = [(row[0], states[virq], *row[1:]) for virq, row in zip(Virq, rows, strict=True)]
    say_table(head, rows)


def _machine(device: str) -> Machine:
    """Return the kind of dom0 that the device's machine has, or that one like it would have."""
    if is_fake(device):
        path = parse(device)[0]
        with contextlib.suppress(OSError):  # no server there
            return RemoteHypervisor(path).configuration().machine if path else "pv"
        return "pv"
    if os.uname().machine == "aarch64":
        return "arm64"
    with contextlib.suppress(OSError):
        if _GUEST_TYPE.read_text() == "PVH\n":
            return "pvh"
    return "pv"


def _holder(virq: Virq, machine: Machine) -> str:
    holder = virq_holder(virq, machine)
    if holder is None:
        return "-"
    return holder if holder == KERNEL else holder.partition(",")[0]


def _probe(device: str) -> dict[Virq, str]:
    states = {}
    with EventChannel.open(device) as channel:
        for virq in Virq:
            try:
                channel.unbind(channel.bind_virq(virq))
                states[virq] = "free"
            except OSError as error:
                states[virq] = _STATES.get(error.errno or 0, reason(error))
    return states


_STATES = {errno.EEXIST: "held", errno.EBUSY: "not ours", errno.EINVAL: "none"}

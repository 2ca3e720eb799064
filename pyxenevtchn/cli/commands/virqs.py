"""xenevtchn virqs: what VIRQs there are, and which are free."""

import contextlib
import errno
import os
from pathlib import Path

import click

from ...abi import KERNEL, Machine, Virq, virq_holder, virq_meaning
from ...channel import EventChannel
from ...fake.names import parse
from ...fake.server.remote import RemoteHypervisor
from ..options import device_option, is_fake
from ..output import confirm, say_table

_GUEST_TYPE = Path("/sys/hypervisor/guest_type")

_HEAD = ("NUMBER", "NAME", "SCOPE", "USUAL HOLDER", "MEANING")


@click.command()
@click.option("--probe", is_flag=True, help="Try which are free in this domain.")
@device_option
def virqs(*, probe: bool, device: str) -> None:
    """List Xen's VIRQs, their usual holders and their meanings.

    A vcpu or domain VIRQ can be bound in each domain; a global one comes to dom0 alone, unless the
    toolstack says otherwise. The usual holder is dom0's, on a machine such as this or the fake's.

    --probe binds each and unbinds it at once. It asks first on a real device: a program that starts
    at that very moment could find its VIRQ taken.
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
    """Tell what kind of dom0 the device's machine has, or one like this would have."""
    if is_fake(device):
        path = parse(device)[0]
        with contextlib.suppress(OSError):  # nobody serves there
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
                states[virq] = _STATES.get(error.errno or 0, error.strerror or str(error))
    return states


_STATES = {errno.EEXIST: "held", errno.EBUSY: "not ours", errno.EINVAL: "none"}

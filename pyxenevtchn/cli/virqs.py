"""xenevtchn virqs: what VIRQs there are, and which are free."""

import errno

import click

from ..abi import KERNEL, Virq, virq_holder, virq_meaning
from ..channel import EventChannel
from .options import device_option, is_fake
from .output import bold, confirm, say

_HEAD = ("NUMBER", "NAME", "SCOPE", "USUAL HOLDER", "MEANING")


@click.command()
@click.option("--probe", is_flag=True, help="Try which are free in this domain.")
@device_option
def virqs(*, probe: bool, device: str) -> None:
    """List Xen's VIRQs, their usual holders and their meanings.

    A vcpu or domain VIRQ can be bound in each domain; a global one comes to dom0 alone, unless the
    toolstack says otherwise. The usual holder is dom0's.

    --probe binds each and unbinds it at once. It asks first on a real device: a program that starts
    at that very moment could find its VIRQ taken.
    """
    rows: list[tuple[str, ...]] = [
        (str(int(virq)), virq.name, str(virq.scope), _holder(virq), virq_meaning(virq))
        for virq in Virq
    ]
    head: tuple[str, ...] = _HEAD
    if probe:
        if not is_fake(device):
            confirm(f"Bind and unbind each VIRQ on {device}?")
        states = _probe(device)
        head = (*_HEAD[:1], "STATE", *_HEAD[1:])
        rows = [(row[0], states[virq], *row[1:]) for virq, row in zip(Virq, rows, strict=True)]
    widths = [max(map(len, column)) for column in zip(head, *rows, strict=True)]
    for row in (head, *rows):
        cells = (cell.ljust(width) for cell, width in zip(row, widths, strict=True))
        line = "  ".join(cells).rstrip()
        say(bold(line) if row is head else line)


def _holder(virq: Virq) -> str:
    holder = virq_holder(virq)
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

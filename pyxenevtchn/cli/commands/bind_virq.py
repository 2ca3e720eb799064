"""xenevtchn bind-virq: the events of one VIRQ."""

import click

from ...channel import EventChannel
from ..events import formats
from ..events.display import Lines, announce
from ..events.monitor import Limits, finish, monitor
from ..events.sources import Sources
from ..options import VIRQ, count_option, device_option, examples, timeout_option


@click.command(
    "bind-virq", epilog=examples("bind-virq DOM_EXC", "bind-virq CON_RING --count 1 --timeout 60")
)
@click.argument("virq", type=VIRQ, metavar="VIRQ")
@count_option
@timeout_option
@device_option
@click.pass_context
def bind_virq(
    ctx: click.Context, virq: int, count: int | None, timeout: float | None, device: str
) -> None:
    """Bind VIRQ, a name or a number, and show its events.

    The first line names the VIRQ's port. Then there is a line for each event, with its time, port
    and source, until Ctrl-C, --count or --timeout. `xenevtchn virqs` lists the VIRQs. Each can be
    bound once in a domain.
    """
    limits = Limits(count, timeout)
    now = formats.clock(formats.LOCALTIME)
    with EventChannel.open(device) as channel:
        sources = Sources(virqs=[virq]).bind(channel)
        announce(sources, formats.TEXT)
        timed_out = monitor(channel, Lines(sources, formats.TEXT), limits, now)
    finish(ctx, limits, timed_out=timed_out)

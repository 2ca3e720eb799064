"""xenevtchn notify: events for the other end of a port."""

import errno

import click

from ...channel import EventChannel
from ..options import (
    ADDRESS,
    STATIC_PORT,
    check_consent,
    consent_option,
    device_option,
    examples,
    interval_option,
    turns,
)


@click.command(epilog=examples("notify 3:17", "notify --static 10 --yes-this-port-is-mine"))
@click.argument("address", type=ADDRESS, required=False, metavar="[DOM:PORT]")
@click.option(
    "--static", "static_port", type=STATIC_PORT, metavar="PORT", help="A port set up at boot."
)
@consent_option
@click.option(
    "-n",
    "--count",
    type=click.IntRange(min=1),
    default=1,
    show_default=True,
    metavar="N",
    help="Send N events.",
)
@interval_option
@device_option
@click.pass_context
def notify(  # noqa: PLR0913 - click hands in each option
    ctx: click.Context,
    *,
    address: tuple[int, int] | None,
    static_port: int | None,
    consent: bool,
    count: int,
    interval: float,
    device: str,
) -> None:
    """Send an event to an unbound port, or through a static one.

    It connects to the port PORT of domain DOM, notifies it and disconnects: then the port is
    unbound again. A port that another program holds cannot be notified from here: its other end
    receives events only from that program.
    """
    if (address is None) == (static_port is None):
        raise click.UsageError("name one target: DOM:PORT, or --static PORT", ctx)
    if static_port is not None:
        check_consent(ctx, device, consent=consent)
    with EventChannel.open(device) as channel:
        if address is not None:
            port = _connect(channel, *address)
        elif static_port is not None:
            port = static_port
            channel.bind_static(port)
        for _ in turns(count, interval):
            channel.notify(port)
        channel.unbind(port)


def _connect(channel: EventChannel, domid: int, remote_port: int) -> int:
    try:
        return channel.bind_interdomain(domid, remote_port)
    except OSError as error:
        if error.errno == errno.EINVAL:
            error.add_note(
                "a connected port receives events only from its peer: notify it from the program"
                " that holds the peer, or let the owner allocate another port"
            )
        raise

"""xenevtchn pong: answer a ping from another domain or program."""

import click

from ...channel import EventChannel
from ..options import DOMID, device_option, domid_name, examples
from ..output import say


@click.command(epilog=examples("pong 3"))
@click.argument("domid", type=DOMID, metavar="DOM")
@device_option
def pong(domid: int, device: str) -> None:
    """Allocate a port for domain DOM and answer its events.

    Until Ctrl-C, every event is answered with one. The first line names the port. In DOM,
    `xenevtchn ping DOM:PORT` connects to it, with the domid of this domain and that port. When a
    ping has ended, another can connect.
    """
    answered = 0
    with EventChannel.open(device) as channel:
        port = channel.bind_unbound_port(domid)
        say(f"PONG {channel.name}: port {port} for domain {domid_name(domid)}")
        try:
            for event in channel.events():
                channel.notify(event)
                answered += 1
        finally:
            say(f"{answered} answered")

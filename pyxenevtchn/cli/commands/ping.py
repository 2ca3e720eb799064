"""xenevtchn ping: round trips over a loopback pair of ports, or to a pong."""

import math
import statistics

import click

from ..options import ADDRESS, device_option, examples, interval_option, turns
from .round_trips import ANSWER_TIMEOUT, open_trips


@click.command(epilog=examples("ping --count 5", "ping 0:23 --interval 0.1"))
@click.argument("address", type=ADDRESS, required=False, metavar="[DOM:PORT]")
@click.option(
    "-c", "--count", type=click.IntRange(min=1), metavar="N", help="Stop after N round trips."
)
@interval_option
@device_option
@click.pass_context
def ping(
    ctx: click.Context,
    address: tuple[int, int] | None,
    count: int | None,
    interval: float,
    device: str,
) -> None:
    """Measure round trips of events.

    With DOM:PORT, events go to that unbound port and back, if `xenevtchn pong` answers there.
    Without it, they go around a loopback pair: two handles of the device, connected with each
    other. No other ports are used.

    Without --count it runs until Ctrl-C. The exit status is 1 if an event was lost.
    """
    times: list[float] = []
    sent = 0
    with open_trips(device, address) as trips:
        click.echo(f"PING {trips.name}: {trips.route}")
        try:
            # A for loop: in Python 3.13, Ctrl-C at the jump back of a while loop would skip the
            # finally clause (python/cpython#108214).
            for sent in turns(count, interval):
                elapsed = trips.round_trip()
                if elapsed is None:
                    click.echo(f"seq={sent} no answer within {ANSWER_TIMEOUT:g} s")
                else:
                    times.append(elapsed)
                    click.echo(f"seq={sent} time={elapsed * 1000:.3f} ms")
        finally:
            click.echo(_statistics(trips.name, sent, sorted(times)))
    if len(times) < sent:
        ctx.exit(1)


def _statistics(name: str, sent: int, times: list[float]) -> str:
    lines = [
        f"--- {name} ping statistics ---",
        f"{sent} sent, {len(times)} returned, {sent - len(times)} lost",
    ]
    if times:
        # The nearest rank: a measured value, even for few round trips.
        p99 = times[math.ceil(0.99 * len(times)) - 1]
        figures = (times[0], statistics.median(times), p99, times[-1])
        milliseconds = "/".join(f"{seconds * 1000:.3f}" for seconds in figures)
        lines.append(f"round trip min/median/p99/max = {milliseconds} ms")
    return "\n".join(lines)

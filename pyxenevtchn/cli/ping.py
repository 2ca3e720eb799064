"""xenevtchn ping: round trips over a loopback pair of ports."""

import math
import statistics
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import click

from ..abi import DOMID_SELF
from ..channel import EventChannel

# A live hypervisor delivers in microseconds to milliseconds: what takes longer is lost.
ANSWER_TIMEOUT = 2.0


@click.command()
@click.option(
    "-c", "--count", type=click.IntRange(min=1), metavar="N", help="Stop after N round trips."
)
@click.option(
    "-i",
    "--interval",
    type=click.FloatRange(min=0),
    default=1.0,
    show_default=True,
    metavar="SECONDS",
    help="Wait so long between round trips.",
)
@click.option("--device", metavar="DEVICE", help="As before the command.")
@click.pass_context
def ping(ctx: click.Context, count: int | None, interval: float, device: str | None) -> None:
    """Send events around a loopback pair of ports and time them.

    Two handles of the device are connected with each other; an event goes from one to the other
    and another one back. Only the pair's own two ports are touched. Without --count it goes on
    until Ctrl-C. The exit status is 1 if an event was lost.
    """
    times: list[float] = []
    sent = 0
    name = device or ctx.obj
    with loopback(name) as pair:
        click.echo(f"PING {pair.name}: port {pair.near_port} <-> port {pair.far_port}")
        try:
            while sent != count:
                if sent:
                    time.sleep(interval)
                sent += 1
                elapsed = pair.round_trip()
                if elapsed is None:
                    click.echo(f"seq={sent} no answer within {ANSWER_TIMEOUT:g} s")
                else:
                    times.append(elapsed)
                    click.echo(f"seq={sent} time={elapsed * 1000:.3f} ms")
        finally:
            click.echo(_statistics(pair.name, sent, sorted(times)))
    if len(times) < sent:
        ctx.exit(1)


@dataclass
class Loopback:
    """Two handles of one device and the ports that connect them."""

    name: str
    near: EventChannel
    far: EventChannel
    near_port: int
    far_port: int

    def round_trip(self) -> float | None:
        """Send an event there and one back; return the seconds it took, None if one was lost."""
        start = time.perf_counter()
        self.near.notify(self.near_port)
        if not self.far.wait(ANSWER_TIMEOUT):
            return None
        self.far.unmask(self.far_port)
        self.far.notify(self.far_port)
        if not self.near.wait(ANSWER_TIMEOUT):
            return None
        self.near.unmask(self.near_port)
        return time.perf_counter() - start


@contextmanager
def loopback(device: str | None) -> Iterator[Loopback]:
    """Connect two new handles of the device with each other, for as long as the context lasts."""
    with EventChannel.open(device) as near, EventChannel.open(device) as far:
        near_port = near.bind_unbound_port(DOMID_SELF)
        far_port = far.bind_interdomain(DOMID_SELF, near_port)
        # The binder's port starts with an event pending that nobody sent.
        far.unmask(far.wait(ANSWER_TIMEOUT))
        yield Loopback(near.name, near, far, near_port, far_port)


def _statistics(name: str, sent: int, times: list[float]) -> str:
    lines = [
        f"--- {name} ping statistics ---",
        f"{sent} sent, {len(times)} returned, {sent - len(times)} lost",
    ]
    if times:
        # The nearest rank: a value that was measured, also for few round trips.
        p99 = times[math.ceil(0.99 * len(times)) - 1]
        figures = (times[0], statistics.median(times), p99, times[-1])
        milliseconds = "/".join(f"{seconds * 1000:.3f}" for seconds in figures)
        lines.append(f"round trip min/median/p99/max = {milliseconds} ms")
    return "\n".join(lines)

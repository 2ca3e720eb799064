"""The loop that shows a handle's events until a limit is reached."""

import math
import time
from collections.abc import Callable
from dataclasses import dataclass

import click

from ...channel import EventChannel
from ...errors import RingOverflow
from ..output import warn
from .display import Display
from .formats import Time


@dataclass(frozen=True)
class Limits:
    """When to end; None means no limit.

    Attributes:
        count: after this many events.
        timeout: after this many seconds.
        idle_timeout: after this many seconds without an event.
    """

    count: int | None = None
    timeout: float | None = None
    idle_timeout: float | None = None


def monitor(
    channel: EventChannel,
    display: Display,
    limits: Limits,
    now: Callable[[], Time],
    hook: Callable[[int], object] | None = None,
) -> bool:
    """Show the channel's events until a limit is reached; return whether it was a time limit.

    A port stays masked until its batch has been shown and the hook has run.
    """
    start = last = time.monotonic()
    end = math.inf if limits.timeout is None else start + limits.timeout
    idle = math.inf if limits.idle_timeout is None else limits.idle_timeout
    left = math.inf if limits.count is None else limits.count
    ports: list[int] = []
    try:
        while True:
            until = min(end, last + idle, display.due)
            ports = _wait(channel, until - time.monotonic(), ports)
            stamp = now()
            for port in ports:
                display.event(stamp, port)
                if hook is not None:
                    hook(port)
                left -= 1
                if not left:
                    return False
            moment = time.monotonic()
            if ports:
                last = moment
            if moment >= min(end, last + idle):
                return True
            if moment >= display.due:
                display.tick()
    finally:
        display.end()


def finish(ctx: click.Context, limits: Limits, *, timed_out: bool) -> None:
    """Exit with status 3 if the time expired before the count was reached."""
    if timed_out and limits.count is not None:
        ctx.exit(3)


def _wait(channel: EventChannel, seconds: float, shown: list[int]) -> list[int]:
    timeout = None if seconds == math.inf else max(0.0, seconds)
    try:
        return channel.wait(timeout, unmask=shown)
    except RingOverflow:
        ports = channel.recover()
        warn(
            "the ring overflowed and events were lost; any of these ports may have lost some:"
            f" {', '.join(map(str, sorted(ports)))}"
        )
        return []

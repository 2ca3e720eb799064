"""How events are shown: a line for each, or a summary for each second."""

import math
import time
from collections import Counter
from collections.abc import Callable, Mapping
from typing import Protocol

from ..output import emit
from .formats import Format, Time


class Display(Protocol):
    """Shows events.

    Attributes:
        due: the time of time.monotonic() at which ``tick`` must be called.
    """

    due: float

    def event(self, time: Time, port: int) -> None:
        """Show an event."""

    def tick(self) -> None:
        """Do what is due, and set ``due`` to the next time."""

    def end(self) -> None:
        """Show what has not been shown yet."""


class Lines:
    """A line for each event."""

    due: float = math.inf

    def __init__(self, sources: Mapping[int, str], form: Format) -> None:
        self._sources = sources
        self._line = form.event

    def event(self, time: Time, port: int) -> None:
        """Write the event's line."""
        emit(self._line(time, port, self._sources[port]))

    def tick(self) -> None:
        """Do nothing: nothing is ever due."""

    def end(self) -> None:
        """Do nothing: every event has been shown."""


class Rates:
    """A line for each source, each second."""

    def __init__(self, sources: Mapping[int, str], form: Format, now: Callable[[], Time]) -> None:
        self._sources = sources
        self._line = form.rate
        self._now = now
        self._counts: Counter[int] = Counter()
        self._since = time.monotonic()
        self.due: float = self._since + 1

    def event(self, time: Time, port: int) -> None:  # noqa: ARG002 - the summary has its own
        """Count the event."""
        self._counts[port] += 1

    def tick(self) -> None:
        """Write the summary of the time since the last summary."""
        end = time.monotonic()
        now = self._now()
        for port, source in self._sources.items():
            emit(self._line(now, port, source, self._counts[port], end - self._since))
        self._counts.clear()
        self._since, self.due = end, end + 1

    def end(self) -> None:
        """Write the summary of the last, incomplete second, if it had an event."""
        if self._counts:
            self.tick()


def announce(sources: Mapping[int, str], form: Format) -> None:
    """Write the port of each source; all sources are bound before."""
    for port, source in sources.items():
        emit(form.bound(port, source))

"""How an event is written: as text, as JSON or in the user's format; and its time."""

import datetime as dt
import json
import string
import time
from collections.abc import Callable
from typing import NamedTuple

LOCALTIME, UTC, MONOTONIC = "localtime", "utc", "monotonic"

FIELDS = ("time", "port", "source")

Time = str | float


class Format(NamedTuple):
    """The functions that write each kind of line.

    Attributes:
        bound: a port and its source.
        event: the time, port and source of an event.
        rate: the time, port and source, the number of events, and the seconds that they took.
    """

    bound: Callable[[int, str], str]
    event: Callable[[Time, int, str], str]
    rate: Callable[[Time, int, str, int, float], str]


def clock(name: str) -> Callable[[], Time]:
    """Return a function that returns the time: in ISO 8601, or seconds of the monotonic clock."""
    if name == MONOTONIC:
        return lambda: round(time.monotonic(), 6)
    utc = dt.UTC
    if name == UTC:
        return lambda: dt.datetime.now(utc).isoformat(timespec="microseconds")
    return lambda: dt.datetime.now(utc).astimezone().isoformat(timespec="microseconds")


def _bound_line(port: int, source: str) -> str:
    return f"port {port} is {source}"


def _rate_line(time: Time, port: int, source: str, events: int, seconds: float) -> str:
    return f"{time} {port} {source} {events / seconds:.1f}/s"


TEXT = Format(_bound_line, lambda time, port, source: f"{time} {port} {source}", _rate_line)

JSON = Format(
    lambda port, source: json.dumps({"type": "bound", "port": port, "source": source}),
    lambda time, port, source: json.dumps(
        {"type": "event", "time": time, "port": port, "source": source}
    ),
    lambda time, port, source, events, seconds: json.dumps(
        {
            "type": "rate",
            "time": time,
            "port": port,
            "source": source,
            "events": events,
            "seconds": round(seconds, 6),
        }
    ),
)


def custom(template: str, time: Time) -> Format:
    """Return a format for the user's template, such as ``{time} {port:>5} {source}``.

    Args:
        template: as str.format takes it, with the FIELDS as names.
        time: an example of a time, to test the template.

    Raises:
        ValueError: a field is not one of FIELDS, or the template is not valid.
    """
    for _, field, _, _ in string.Formatter().parse(template):
        if field is not None and field not in FIELDS:
            known = ", ".join(f"{{{name}}}" for name in FIELDS)
            raise ValueError(f"there is no field {{{field}}}: the fields are {known}")

    def event(time: Time, port: int, source: str) -> str:
        return template.format(time=time, port=port, source=source)

    try:
        event(time, 1, "virq:CON_RING")
    except (LookupError, MemoryError, OverflowError) as error:
        raise ValueError(str(error) or "it is too large") from error
    return TEXT._replace(event=event)

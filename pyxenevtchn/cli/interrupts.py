"""The kernel's own counters of events: /proc/interrupts and its ``evtchn:NAME`` lines."""

import re
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

PATH = Path("/proc/interrupts")

# The interrupt's number, its counts on each CPU, its chip and type, and the name that the driver
# gave it: that of the program that opened the handle, which can have any characters.
_LINE = re.compile(r"\s*(\d+):((?:\s+\d+)+)\s.*?\sevtchn:(.*)")


class Counter(NamedTuple):
    """One port's counter.

    Attributes:
        irq: the number of the port's interrupt.
        owner: the program that opened the handle.
        events: how many were delivered since the port was bound.
    """

    irq: int
    owner: str
    events: int


class Usage(NamedTuple):
    """The events of one owner's ports between two samples.

    Attributes:
        owner: the program's name; programs of the same name are one owner.
        ports: how many ports the owner has now.
        events: how many were delivered between the samples.
        total: how many were delivered since the ports were bound.
    """

    owner: str
    ports: int
    events: int
    total: int


def read() -> list[Counter]:
    """Return the counters of the event channels of user space.

    Raises:
        OSError: /proc/interrupts cannot be read.
    """
    return parse(PATH.read_text(errors="surrogateescape"))


def parse(text: str) -> list[Counter]:
    """Return the event channels of user space in the text of /proc/interrupts."""
    lines = text.splitlines()
    cpus = len(lines[0].split()) if lines else 0
    counters = []
    for line in lines[1:]:
        if match := _LINE.fullmatch(line):
            counts = match[2].split()[:cpus]
            counters.append(Counter(int(match[1]), match[3], sum(map(int, counts))))
    return counters


def compare(before: Iterable[Counter], after: Iterable[Counter]) -> list[Usage]:
    """Return the sums of each owner between two samples, the busiest owner first.

    A port that is new, or whose interrupt had another owner or a higher count before, was bound
    between the samples: all its events are new.
    """
    known = {(counter.irq, counter.owner): counter.events for counter in before}
    sums: dict[str, list[int]] = {}
    for counter in after:
        earlier = known.get(counter[:2], 0)
        new = counter.events - earlier if counter.events >= earlier else counter.events
        usage = sums.setdefault(counter.owner, [0, 0, 0])
        for index, amount in enumerate((1, new, counter.events)):
            usage[index] += amount
    usages = [Usage(owner, *amounts) for owner, amounts in sums.items()]
    return sorted(usages, key=lambda usage: (-usage.events, -usage.total, usage.owner))

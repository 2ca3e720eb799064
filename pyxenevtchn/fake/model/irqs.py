"""The handlers of ports' interrupts: open files, and two rare cases."""

from typing import Protocol


class Irq(Protocol):
    """The handler of a port's interrupt."""

    def interrupt(self, port: int) -> None:
        """Take an event of the port."""


class File(Irq, Protocol):
    """An open file, as the kernel below the driver uses it (see driver.OpenFile)."""

    ports: dict[int, bool]
    readable: bool
    stale: bool

    @property
    def holds_events(self) -> bool:
        """Whether the ring has events."""

    def show_readable(self) -> None:
        """Make poll report POLLIN."""

    def abandon(self) -> None:
        """Drop every port and event."""


class SharedIrq:
    """The interrupt of a port that several open files hold: each of them gets every event."""

    def __init__(self, first: Irq, second: Irq) -> None:
        self._first = first
        self._second = second

    def interrupt(self, port: int) -> None:
        """Take an event of the port."""
        self._first.interrupt(port)
        self._second.interrupt(port)


class OrphanIrq:
    """The interrupt of a port that its open file has forgotten: no write ends it."""

    def __init__(self, file: File) -> None:
        self._file = file

    def interrupt(self, port: int) -> None:
        """Take an event of the port."""
        self._file.interrupt(port)
        del self._file.ports[port]

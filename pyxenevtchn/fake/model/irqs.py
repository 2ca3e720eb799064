"""What runs at the interrupt of a port: an open file, or in two rare cases something else."""

from typing import Protocol


class Irq(Protocol):
    """What runs at the interrupt of a port."""

    def interrupt(self, port: int) -> None:
        """Take an event of the port."""


class File(Irq, Protocol):
    """An open file, as the kernel below the driver knows it (see driver.OpenFile)."""

    ports: dict[int, bool]
    readable: bool
    stale: bool

    @property
    def holds_events(self) -> bool:
        """Whether there is an event in its ring."""

    def show_readable(self) -> None:
        """Show that something has come."""

    def abandon(self) -> None:
        """Forget every port and event."""


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
    """The interrupt of a port that its open file does not know any more: nothing ends it."""

    def __init__(self, file: File) -> None:
        self._file = file

    def interrupt(self, port: int) -> None:
        """Take an event of the port."""
        self._file.interrupt(port)
        del self._file.ports[port]

"""What runs at the interrupt of a port: an open file, or in two rare cases something else."""

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from .driver import OpenFile


class Irq(Protocol):
    """What runs at the interrupt of a port."""

    def interrupt(self, port: int) -> None:
        """Take an event of the port."""


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

    def __init__(self, file: "OpenFile") -> None:
        self._file = file

    def interrupt(self, port: int) -> None:
        """Take an event of the port."""
        self._file.interrupt(port)
        del self._file.ports[port]

"""The file operations that the core calls: those of a driver in Python.

An exception cannot pass through C. It is kept (see device.keep), C returns RAISED, and whoever
called C raises it again. So the exception of a signal handler that runs here reaches the caller.
"""

import atexit
import itertools
from typing import Any, Protocol

from ..compiled import ffi, lib
from ..device import keep


class Operations(Protocol):
    """What the core does with an open file; each method returns a negated errno for an error."""

    def request(self, number: int, first: int, second: int) -> int:
        """Make a request; return the port that it binds, or 0."""

    def read(self, ports: Any, room: int) -> int:  # noqa: ANN401 - C's pointer
        """Take at most ``room`` events into C's array, without waiting; return how many."""

    def write(self, ports: list[int]) -> int:
        """Enable the ports again; return 0."""

    def release(self, *, owned: bool) -> None:
        """Close the file; and its descriptor, if that is owned."""


# By number. A file stays here until its release: for good, if its handle is stale.
_files: dict[int, Operations] = {}
_numbers = itertools.count(1)

_raising: dict[str, Any] = {"error": lib.RAISED, "onerror": keep}


def attach(core: Any, file: Operations, fd: int) -> None:  # noqa: ANN401 - C's pointer
    """Make a C device of a file.

    Args:
        core: the device.
        file: the file.
        fd: a descriptor that polls as the driver's does.
    """
    number = next(_numbers)
    _files[number] = file
    lib.device_python(core, number, fd)


@ffi.def_extern(**_raising)
def python_request(file: int, number: int, first: int, second: int) -> int:
    """Make a request."""
    return _files[file].request(number, first, second)


@ffi.def_extern(**_raising)
def python_read(file: int, ports: Any, room: int) -> int:  # noqa: ANN401
    """Take events."""
    return _files[file].read(ports, room)


@ffi.def_extern(**_raising)
def python_write(file: int, ports: Any, count: int) -> int:  # noqa: ANN401
    """Enable ports."""
    return _files[file].write([ports[0]] if count == 1 else ffi.unpack(ports, count))


@ffi.def_extern(**_raising)
def python_release(file: int, owned: bool) -> int:
    """Close a file."""
    _files.pop(file).release(owned=owned)
    return 0


@atexit.register
def _end() -> None:
    lib.device_end_python()

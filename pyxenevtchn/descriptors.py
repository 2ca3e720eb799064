"""File descriptors that an object owns, from the call that creates them until it is freed."""

import os
from typing import Any, Self

from .compiled import ffi, lib


class Descriptor:
    """A descriptor that is closed when this object is freed.

    The number is not reused while a running call holds a reference to the object. The descriptor
    does not leak, wherever a signal handler raises. Every method that creates one raises OSError.
    """

    def __init__(self) -> None:
        """Own no descriptor yet."""
        core = ffi.new("struct descriptor *", {"fd": -1})
        self._core: Any = ffi.gc(core, lib.descriptor_close)

    @classmethod
    def open(cls, path: str, flags: int) -> Self:
        """Open a path."""
        made = cls()
        return made._opened(lib.descriptor_open(made._core, os.fsencode(path), flags))

    @classmethod
    def duplicate(cls, fd: int, *, cloexec: bool = True) -> Self:
        """Duplicate a descriptor."""
        made = cls()
        return made._opened(lib.descriptor_duplicate(made._core, fd, cloexec))

    @classmethod
    def eventfd(cls) -> Self:
        """Create an eventfd, nonblocking."""
        made = cls()
        return made._opened(lib.descriptor_eventfd(made._core))

    @classmethod
    def clock(cls) -> Self:
        """Create a timer that becomes readable, with ECANCELED, when the clock is set."""
        made = cls()
        return made._opened(lib.descriptor_clock(made._core))

    @property
    def number(self) -> int:
        """The descriptor's number; -1 once it is closed."""
        fd: int = self._core.fd
        return fd

    def close(self) -> None:
        """Close the descriptor now; no call may be using it."""
        lib.descriptor_close(self._core)

    def _opened(self, result: int) -> Self:
        if result < 0:
            raise OSError(-result, os.strerror(-result))
        return self

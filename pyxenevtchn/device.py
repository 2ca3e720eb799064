"""Device: an open file of the driver, the kernel's or a fake's, for a handle to take over."""

import threading
from abc import ABC, abstractmethod
from types import TracebackType
from typing import Any, NoReturn

from .abi import Request
from .compiled import ffi, lib
from .errors import ChannelClosed, operation_error
from .ports import Port

NUMBERS: dict[Request, int] = {request: number for number, request in enumerate(Request)}
"""The requests' numbers, in the order of the header."""


class Device(ABC):
    """An open file of the driver: a thing to pass on to ``EventChannel``, which takes it over.

    Until then it is closed by ``close``, or when it is garbage-collected. Any thread may use it.

    Attributes:
        name: its name in messages: a path, ``fd N``, or ``fake:...``.
        blocking: whether ``EventChannel.read`` waits for an event (opened without O_NONBLOCK).
        space: equal for two devices whose ports belong to the same domain.
        core: the C struct.
        is_new: whether the handle that has taken it over is still unknown to the user, who is not
            to be warned if it is dropped.
    """

    def __init__(self, name: str, *, blocking: bool, space: int) -> None:
        self.name = name
        self.blocking = blocking
        self.space = space
        self.is_new: bool = False
        # Owned before anything is opened into it: it does not leak, wherever a handler raises.
        self.core: Any = ffi.gc(ffi.new("struct device *"), lib.device_release)

    def fileno(self) -> int:
        """Return a descriptor that polls as the driver's does; -1 if it is closed here."""
        fd: int = self.core.fd if self.core.driver else -1
        return fd

    def close(self) -> None:
        """Close it, unless a handle has taken it over; it may be called again."""
        if lib.device_release(self.core):
            raise_kept()

    @abstractmethod
    def reopen(self) -> "Device | OSError":
        """Open the device again: a new file of the driver, in the same domain.

        Returns:
            The new device, or the error of the open.
        """

    @abstractmethod
    def port_table(self) -> tuple[Port, ...]:
        """Return the ports of the device's domain, in order of number, as the hypervisor has them.

        Raises:
            OSError: the table is not available; a note says what to do.
        """

    def ioctl(self, request: Request, *arguments: int) -> int:
        """Make a request.

        Args:
            request: the request.
            arguments: the fields of its struct.

        Returns:
            The port, for a request that allocates one; otherwise 0.

        Raises:
            OSError: with the driver's errno.
            ChannelClosed: it is closed, or a handle has taken it over.
        """
        first, second, *_ = (*arguments, 0, 0)
        result = lib.device_request(self.core, NUMBERS[request], first, second)
        if result == lib.RAISED:
            raise_kept()
        if result == lib.CLOSED:
            raise ChannelClosed(f"{self.name}: the device is closed")
        if result < 0:
            raise operation_error(request, arguments, -result, self.name)
        return result


_kept = threading.local()


def keep(
    _kind: type[BaseException], error: BaseException, _traceback: TracebackType | None
) -> None:
    """Keep what a driver in Python has raised until C has returned to Python."""
    _kept.error = error


def raise_kept() -> NoReturn:
    """Raise what was kept in the call into C that has just returned RAISED."""
    error, _kept.error = _kept.error, None
    try:
        raise error
    finally:
        del error  # it would be a reference cycle

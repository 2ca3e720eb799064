"""The device itself, /dev/xen/evtchn: the one module that calls the compiled code."""

import errno
import os
import stat
import threading
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Self

try:
    from ._ffi import ffi, lib
except ModuleNotFoundError as _error:
    _error.add_note(
        "this is a source folder in which nothing has been compiled: run"
        " `pip install --editable .` there, or start Python in another folder"
    )
    raise
from .abi import PORT_BYTES, Packed, Request, unpack_ports
from .device import PAGE_PORTS, poll_device
from .errors import open_error, operation_error

if TYPE_CHECKING:
    from ._ffi import Pointer

# An attribute of lib is looked up in three dictionaries.
_notify, _take = lib.notify, lib.take

# Longer than anybody waits, in seconds, and far from what its nanoseconds would overflow.
_LONGEST = 1e9


class KernelDevice:
    """An open file of the Linux driver (see device.Device).

    Any thread may make any call but ``close``, which wants to be the last one.
    """

    port_space = "kernel"

    def __init__(self, fd: int, name: str, *, closefd: bool = True) -> None:
        if not stat.S_ISCHR(os.fstat(fd).st_mode):
            raise OSError(errno.ENOTTY, "not an event-channel device", name)
        self.name = name
        self.blocking: bool = os.get_blocking(fd)
        self._fd = fd
        self._closefd = closefd
        # One reader at a time where the driver's read would wait: nothing could wake it there.
        self._reading = threading.RLock()
        # A page serves one call at a time; those that nobody uses now, each as C and as Python
        # know it.
        self._pages: list[tuple[Pointer, memoryview]] = []

    @classmethod
    def open(cls, path: str, *, nonblocking: bool, cloexec: bool) -> Self:
        """Open the device node at ``path``.

        Raises:
            OSError: as open(2), with a note that says what to do; ENOTTY for what is no device.
        """
        try:
            fd = os.open(path, os.O_RDWR | os.O_CLOEXEC | (os.O_NONBLOCK if nonblocking else 0))
        except OSError as error:
            raise open_error(error, path) from None
        try:
            os.set_inheritable(fd, not cloexec)
            return cls(fd, path)
        except BaseException:
            os.close(fd)
            raise

    def fileno(self) -> int:
        return self._fd

    def ioctl(self, request: Request, *arguments: int) -> int:
        result = _FUNCTIONS[request](self._fd, *arguments)
        if result < 0:
            raise operation_error(request, arguments, ffi.errno, self.name)
        return result

    def notify(self, port: int) -> None:
        if _notify(self._fd, port) < 0:
            raise operation_error(Request.NOTIFY, (port,), ffi.errno, self.name)

    def notify_many(self, ports: Packed) -> tuple[int, int]:
        count = len(ports) // PORT_BYTES
        sent = lib.notify_many(self._fd, ffi.from_buffer("uint32_t[]", ports), count)
        return sent, ffi.errno if sent < count else 0

    def readinto(self, buffer: memoryview) -> int:
        try:
            if not self.blocking:
                return os.readv(self._fd, (buffer,))
            with self._reading:
                if poll_device(self, -1, 0):
                    return os.readv(self._fd, (buffer,))
            raise BlockingIOError(errno.EAGAIN, "")
        except OSError as error:
            raise operation_error("read", (len(buffer),), error.errno or 0, self.name) from None

    def take(self, most: int, wake: int, timeout: float | None, backlog: deque[int]) -> list[int]:
        if self.blocking:
            return self._take_blocking(most, wake, timeout)
        try:
            page = self._pages.pop()
        except IndexError:
            view = memoryview(bytearray((1 + PAGE_PORTS) * PORT_BYTES)).cast("I")
            page = ffi.from_buffer("uint32_t[]", view), view
        buffer, view = page
        view[0] = 0
        ports: list[int] | None = None
        try:
            nanoseconds = int(min(timeout, _LONGEST) * 1e9) if timeout else -(timeout is None)
            room = most if most < PAGE_PORTS else PAGE_PORTS  # noqa: FURB136 - min is a call
            count = _take(self._fd, wake, nanoseconds, buffer, room)
            if count < 0:
                raise operation_error(  # noqa: TRY301 - then there is nothing in the page
                    "read", (most * PORT_BYTES,), ffi.errno, self.name
                )
            ports = [view[1]] if count == 1 else view[1 : count + 1].tolist()
            self._pages.append(page)
        except BaseException:
            backlog.extend(view[1 : view[0] + 1] if ports is None else ports)
            raise
        return ports

    def _take_blocking(self, most: int, wake: int, timeout: float | None) -> list[int]:
        if poll_device(self, wake, timeout):
            with self._reading:
                # Another reader may have been faster.
                if poll_device(self, wake, 0):
                    return unpack_ports(self.read(most * PORT_BYTES))
        return []

    def read(self, size: int) -> bytes:
        try:
            return os.read(self._fd, size)
        except OSError as error:
            raise operation_error("read", (size,), error.errno or 0, self.name) from None

    def write(self, data: Packed) -> int:
        try:
            return os.write(self._fd, data)
        except OSError as error:
            raise operation_error("write", (len(data),), error.errno or 0, self.name) from None

    def close(self) -> None:
        fd, self._fd = self._fd, -1
        if self._closefd and fd >= 0:
            os.close(fd)


_FUNCTIONS: dict[Request, Callable[..., int]] = {
    request: getattr(lib, request) for request in Request
}

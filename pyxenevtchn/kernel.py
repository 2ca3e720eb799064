"""The device itself, /dev/xen/evtchn: the one module that calls the compiled code."""

import errno
import os
import stat
from collections.abc import Callable
from typing import Self

from ._ffi import ffi, lib
from .abi import PORT_BYTES, Request
from .errors import open_error, operation_error


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

    def notify_many(self, ports: memoryview) -> tuple[int, int]:
        count = len(ports) // PORT_BYTES
        sent = lib.notify_many(self._fd, ffi.from_buffer("uint32_t[]", ports), count)
        return sent, ffi.errno if sent < count else 0

    def readinto(self, buffer: memoryview) -> int:
        try:
            return os.readv(self._fd, (buffer,))
        except OSError as error:
            raise operation_error("read", (len(buffer),), error.errno or 0, self.name) from None

    def read(self, size: int) -> bytes:
        try:
            return os.read(self._fd, size)
        except OSError as error:
            raise operation_error("read", (size,), error.errno or 0, self.name) from None

    def write(self, data: memoryview) -> int:
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

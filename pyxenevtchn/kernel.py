"""The device itself, /dev/xen/evtchn."""

import errno
import os
import stat
import threading
from collections.abc import Callable, Hashable
from functools import partial
from typing import Any

from . import privcmd
from .abi import PORT_BYTES, Packed, Request
from .compiled import ffi, lib
from .descriptors import BorrowedDescriptor, Descriptor, make_dead
from .device import DEFAULT_DEVICE, Device, Page
from .errors import open_error
from .ports import Port


class KernelDevice(Device):
    """An open file of the Linux driver (see device.Device).

    What is called for each event is bound straight to the compiled code.
    """

    def __init__(
        self, descriptor: Descriptor | BorrowedDescriptor, name: str, path: str = DEFAULT_DEVICE
    ) -> None:
        """Make a device of a descriptor, which is not the device's to close yet.

        Args:
            descriptor: the descriptor.
            name: what the device is called.
            path: where it can be opened anew.

        Raises:
            OSError: EBADF; ENOTTY for what is no character device; EMFILE.
        """
        fd = descriptor.number
        if not stat.S_ISCHR(os.fstat(fd).st_mode):
            raise OSError(errno.ENOTTY, "not an event-channel device", name)
        self.name = name
        self._path = path
        self.port_space: Hashable = "kernel"
        self.blocking: bool = os.get_blocking(fd)
        self._fd = fd
        self._descriptor = descriptor
        self._dead = make_dead()
        # No method of its own: what is in a cycle stays open until that is collected.
        self.turn: Callable[..., int] = (
            partial(_turn_blocking, fd, threading.RLock())
            if self.blocking
            else partial(lib.turn, fd)
        )
        self.unmask: Callable[..., int] = partial(lib.unmask, fd)
        self.unmask_one: Callable[..., int] = partial(lib.unmask_one, fd)
        self.close: Callable[[], object] = bool
        # The driver lets the file go once the calls under way have left it; later ones get EBADF.
        self._replace = partial(os.dup2, self._dead.number, fd, False)

    def own(self) -> None:
        if isinstance(self._descriptor, BorrowedDescriptor):
            self._descriptor.owned = True
        self.close = self._replace

    def fileno(self) -> int:
        return self._fd

    def new_page(self) -> Page:
        return Page(partial(ffi.from_buffer, "uint32_t[]"))

    def request(self, request: Request) -> Callable[..., int]:
        return partial(_FUNCTIONS[request], self._fd)

    def notify_many(self, ports: Packed) -> tuple[int, int]:
        count = len(ports) // PORT_BYTES
        result = lib.notify_many(self._fd, ffi.from_buffer("uint32_t[]", ports), count)
        return result & 0xFFFF_FFFF, result >> 32

    def reopen(self) -> Device:
        return open_kernel(self._path, nonblocking=True, cloexec=True)

    def port_table(self) -> tuple[Port, ...]:
        return privcmd.port_table()


def open_kernel(path: str, *, nonblocking: bool, cloexec: bool) -> KernelDevice:
    """Open the device node at ``path``.

    Raises:
        OSError: as open(2), with a note that says what to do; ENOTTY for what is no device.
    """
    flags = os.O_RDWR | os.O_CLOEXEC | (os.O_NONBLOCK if nonblocking else 0)
    try:
        descriptor = Descriptor(os.open, path, flags)
    except OSError as error:
        raise open_error(error, path) from None
    try:
        os.set_inheritable(descriptor.number, not cloexec)
        device = KernelDevice(descriptor, path, path)
        device.own()
        return device  # noqa: TRY300
    except BaseException:
        # The exception's frames would keep it for a while.
        descriptor.close()
        raise


def adopt_kernel(fd: int) -> KernelDevice:
    """Make a device of a descriptor that is open already; it stays its owner's to close.

    Raises:
        OSError: EBADF; ENOTTY for what is no character device; EMFILE.
    """
    return KernelDevice(BorrowedDescriptor(fd), f"fd {fd}")


def _turn_blocking(  # noqa: PLR0913, PLR0917 - what turn is called with, and what it belongs to
    fd: int,
    reading: threading.RLock,
    wake: int,
    page: Any,  # noqa: ANN401 - C's pointer
    room: int,
    left: int,
    port: int,
) -> int:
    ready = lib.wait_readable(fd, wake, page, room, left, port)
    if ready <= 0:
        return ready
    # One reader at a time where the driver's read would wait: nothing could wake it there.
    with reading:
        return lib.read_readable(fd, page, room)


def make_clock_timer() -> Descriptor:
    """Make a descriptor that can be read, with ECANCELED, once the clock was set since the last.

    Raises:
        OSError: EMFILE.
    """
    timer = Descriptor(os.eventfd, 0, os.EFD_CLOEXEC)
    result = lib.watch_clock(timer.number)
    if result < 0:
        raise OSError(-result, os.strerror(-result))
    return timer


_FUNCTIONS: dict[Request, Callable[..., int]] = {
    request: getattr(lib, request) for request in Request
}

"""The real device, /dev/xen/evtchn."""

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

    The calls that are made for each event are bound directly to the compiled code.
    """

    def __init__(
        self, descriptor: Descriptor | BorrowedDescriptor, name: str, path: str = DEFAULT_DEVICE
    ) -> None:
        """Make a device of a descriptor, which the device does not own until ``own``.

        Args:
            descriptor: the descriptor.
            name: the device's name in messages.
            path: the path that ``reopen`` opens.

        Raises:
            OSError: EBADF: it is not open. ENOTTY: it is not a character device. EMFILE.
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
        # No bound methods: a reference cycle would keep the file open until it is collected.
        self.turn: Callable[..., int] = (
            partial(_turn_blocking, fd, threading.RLock())
            if self.blocking
            else partial(lib.turn, fd)
        )
        self.unmask: Callable[..., int] = partial(lib.unmask, fd)
        self.unmask_one: Callable[..., int] = partial(lib.unmask_one, fd)
        self.close: Callable[[], object] = bool
        # The kernel releases the file when running calls have returned; later calls get EBADF.
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
        OSError: as open(2), with a note that says what to do. ENOTTY: not a character device.
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
        # The exception's traceback would keep it open.
        descriptor.close()
        raise


def adopt_kernel(fd: int) -> KernelDevice:
    """Make a device of a descriptor that is already open; its owner still closes it.

    Raises:
        OSError: EBADF: it is not open. ENOTTY: it is not a character device. EMFILE.
    """
    return KernelDevice(BorrowedDescriptor(fd), f"fd {fd}")


def _turn_blocking(  # noqa: PLR0913, PLR0917 - turn's arguments and the device's state
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
    # One reader at a time: a second one would wait in the driver's read, where nothing wakes it.
    with reading:
        return lib.read_readable(fd, page, room)


def make_clock_timer() -> Descriptor:
    """Create a timer that becomes readable, with ECANCELED, when the clock is set.

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

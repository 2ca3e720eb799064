"""The real device, /dev/xen/evtchn."""

import errno
import os

from . import privcmd
from .abi import DEFAULT_DEVICE
from .compiled import lib
from .device import Device
from .errors import open_error
from .ports import Port

_SPACE = 0  # the one domain that this process runs in


class KernelDevice(Device):
    """An open file of the Linux driver (see device.Device)."""

    def __init__(self, name: str, path: str, *, blocking: bool) -> None:
        super().__init__(name, blocking=blocking, space=_SPACE)
        self._path = path

    def reopen(self) -> Device | OSError:
        return _open(self._path, nonblocking=True, cloexec=True)

    def port_table(self) -> tuple[Port, ...]:
        return privcmd.port_table()


def open_kernel(path: str, *, nonblocking: bool, cloexec: bool) -> KernelDevice:
    """Open the device node at ``path``.

    Its file is nonblocking in any case: nothing could end a read that waits in the driver.

    Raises:
        OSError: as open(2), with a note that says what to do. ENOTTY: another kind of file.
        ValueError: the path has a null character.
    """
    if "\0" in path:
        raise ValueError("the path has a null character")
    device = _open(path, nonblocking=nonblocking, cloexec=cloexec)
    if isinstance(device, OSError):
        raise device
    return device


def _open(path: str, *, nonblocking: bool, cloexec: bool) -> KernelDevice | OSError:
    device = KernelDevice(path, path, blocking=not nonblocking)
    flags = os.O_RDWR | os.O_NONBLOCK | (os.O_CLOEXEC if cloexec else 0)
    result = lib.device_open(device.core, os.fsencode(path), flags)
    if result < 0:
        return open_error(_error(-result, path), path)
    return device


def adopt_kernel(fd: int) -> KernelDevice:
    """Make a device of a descriptor that is already open; its owner still closes it.

    Its file becomes nonblocking.

    Raises:
        OSError: EBADF: it is not open. ENOTTY: it is not an event-channel device.
    """
    device = KernelDevice(f"fd {fd}", DEFAULT_DEVICE, blocking=os.get_blocking(fd))
    result = lib.device_adopt(device.core, fd)
    if result < 0:
        raise _error(-result, device.name)
    return device


def _error(number: int, name: str) -> OSError:
    text = "not an event-channel device" if number == errno.ENOTTY else os.strerror(number)
    return OSError(number, text, name)

"""The real driver by plain system calls, without this project's library.

RawFiles is used by tests in dom0 and by the agent in a guest (see guest_agent).
"""

import errno
import fcntl
import os
import select
import struct
from array import array

from pyxenevtchn import DOMID_SELF, Request

NODE = "/dev/xen/evtchn"
# As in limits.py, which needs pytest: a guest does not have it.
TIMEOUT = 100.0

# From <xen/evtchn.h>: _IOC(_IOC_NONE, 'E', number, size of the struct), and the struct's fields.
_REQUESTS = {
    Request.BIND_VIRQ: (0x44500, "I"),
    Request.BIND_INTERDOMAIN: (0x84501, "II"),
    Request.BIND_UNBOUND_PORT: (0x44502, "I"),
    Request.UNBIND: (0x44503, "I"),
    Request.NOTIFY: (0x44504, "I"),
    Request.RESET: (0x4505, ""),
    Request.RESTRICT_DOMID: (0x24506, "H"),
    Request.BIND_STATIC: (0x44507, "I"),
}
# The kernel's array of channels grows by so many with the FIFO ABI.
_CHANNELS_PAGE = 1024
_MOST_CHANNELS = 131072


class RawFiles:
    """Open files of the driver, by descriptor, and a connected pair of ports as a fence."""

    def __init__(self) -> None:
        self._fence: tuple[int, int, int] | None = None

    def open(self) -> int:
        """Open the device, non-blocking; return the descriptor."""
        return os.open(NODE, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)

    def dup(self, fd: int) -> int:
        """Duplicate a descriptor."""
        return os.dup(fd)

    def close(self, fd: int) -> None:
        """Close a descriptor."""
        os.close(fd)

    def ioctl(self, fd: int, request: str, *arguments: int) -> int:
        """Make a request; the arguments are the fields of its struct."""
        number, fields = _REQUESTS[Request(request)]
        result: int = fcntl.ioctl(fd, number, bytearray(struct.pack(f"={fields}", *arguments)))
        return result

    def read(self, fd: int, size: int) -> list[int]:
        """Read at most ``size`` bytes; return the ports in them."""
        return array("I", os.read(fd, size)).tolist()

    def write(self, fd: int, data: str) -> int:
        """Write bytes, given as hexadecimal digits; return how many the driver took."""
        return os.write(fd, bytes.fromhex(data))

    def poll(self, fd: int) -> int:
        """Return what poll(2) reports of POLLIN and POLLERR."""
        poller = select.poll()
        poller.register(fd, select.POLLIN)
        return dict(poller.poll(0)).get(fd, 0)

    def channels(self) -> int:
        """Return how many channels the kernel has room for: UNBIND above that is EINVAL."""
        fd = self.open()
        pages = range(_CHANNELS_PAGE, _MOST_CHANNELS, _CHANNELS_PAGE)
        ready = next((n for n in pages if self._is_out_of_range(fd, n)), _MOST_CHANNELS)
        os.close(fd)
        return ready

    def settle(self) -> None:
        """Wait until all events sent to this domain so far have arrived.

        The fence is a connected pair on a file of its own: its event comes after all earlier ones.
        """
        if self._fence is None:
            fd = self.open()
            near = self.ioctl(fd, Request.BIND_UNBOUND_PORT, DOMID_SELF)
            far = self.ioctl(fd, Request.BIND_INTERDOMAIN, DOMID_SELF, near)
            self._fence = fd, near, far
        else:
            fd, near, far = self._fence
            self.ioctl(fd, Request.NOTIFY, near)
        assert select.select([fd], [], [], TIMEOUT)[0]
        assert self.read(fd, 4096) == [far]
        os.write(fd, struct.pack("=I", far))

    def _is_out_of_range(self, fd: int, port: int) -> bool:
        try:
            self.ioctl(fd, Request.UNBIND, port)
        except OSError as error:
            return error.errno == errno.EINVAL
        raise AssertionError(f"port {port} was bound")

"""The seam: what a device does for an EventChannel, and how a name becomes a device.

Everything above calls a device through this protocol alone, so it is the same code on the real
driver and on the fake.
"""

import os
import select
import sys
from collections import deque
from collections.abc import Hashable
from typing import Protocol, cast

from .abi import PORT_BYTES, Packed, Request

DEFAULT_DEVICE = "/dev/xen/evtchn"
DEVICE_VARIABLE = "XENEVTCHN_DEVICE"

# The driver's read and write take a page at most.
PAGE_PORTS = os.sysconf("SC_PAGE_SIZE") // PORT_BYTES


class Device(Protocol):
    """One open file of the driver: its file operations, and nothing else.

    Poll has no method: it is what select, poll and epoll say of ``fileno()``, for everybody.
    All calls may be made from several threads at once, but none after ``close``.
    """

    @property
    def name(self) -> str:
        """What the device is called in messages: a path, or ``fake:...``."""

    @property
    def blocking(self) -> bool:
        """Whether ``read`` waits when nothing is there (O_NONBLOCK was not set at open)."""

    @property
    def port_space(self) -> Hashable:
        """Equal for two devices whose ports are those of one domain."""

    def fileno(self) -> int:
        """Return a descriptor that polls as the driver's does."""

    def ioctl(self, request: Request, *arguments: int) -> int:
        """Make a request; the arguments are the fields of its struct, already in range.

        Returns:
            The port, for a request that binds one to a new port; else 0.

        Raises:
            OSError: with the driver's errno, from ``errors.operation_error``.
        """

    def notify(self, port: int) -> None:
        """Make NOTIFY of the port, as ``ioctl`` does: it is what is called most."""

    def notify_many(self, ports: Packed) -> tuple[int, int]:
        """Make NOTIFY of each port in turn, of 32-bit words, until one fails.

        Returns:
            How many were sent, and the errno of the next one; 0 where all were.
        """

    def readinto(self, buffer: memoryview) -> int:
        """Take pending ports off the ring, never waiting; return the bytes written.

        Raises:
            BlockingIOError: the ring is empty.
            RingOverflow: events were dropped since the last RESET.
        """

    def read(self, size: int) -> bytes:
        """Take at most ``size`` bytes of pending ports off the ring, as the driver's read does.

        Raises:
            BlockingIOError: the ring is empty and the device does not block.
            RingOverflow: events were dropped since the last RESET.
        """

    def take(self, most: int, wake: int, timeout: float | None, backlog: deque[int]) -> list[int]:
        """Wait until ports are pending and take them: poll and read in one.

        It never waits where ``wake`` cannot end it, whether the device blocks or not.

        Args:
            most: how many ports to take.
            wake: a descriptor that ends the wait once it can be read.
            timeout: seconds; None waits for ever, 0 not at all.
            backlog: where ports go that were taken, and that an exception, a signal handler's,
                keeps from being returned.

        Returns:
            The ports, oldest first; [] where there are none, and perhaps before the time is over.

        Raises:
            RingOverflow: events were dropped since the last RESET.
        """

    def write(self, data: Packed) -> int:
        """Unmask the ports in ``data``; return how many bytes the driver took (a page at most)."""

    def close(self) -> None:
        """Release the descriptor and, if it was the last one of its file, every port."""


# The longest wait that poll(2) takes, in milliseconds; longer ones are made of several.
_POLL_MOST = 2**31 - 1


def poll_device(device: Device, wake: int, timeout: float | None) -> int:
    """Wait until the device or ``wake`` can be read.

    Args:
        device: the device.
        wake: another descriptor; -1 is none.
        timeout: seconds; None waits for ever, 0 not at all.

    Returns:
        What poll says of the device: POLLIN, POLLERR after an overflow, or 0.
    """
    poller = select.poll()
    fd = device.fileno()
    poller.register(fd, select.POLLIN)
    if wake >= 0:
        poller.register(wake, select.POLLIN)
    if timeout is None:
        ready = poller.poll()
    else:
        left = timeout * 1000
        ready = poller.poll(min(left, _POLL_MOST))
        while not ready and left > _POLL_MOST:
            left -= _POLL_MOST
            ready = poller.poll(min(left, _POLL_MOST))
    return dict(ready).get(fd, 0)


def open_device(
    name: str | os.PathLike[str] | None = None, *, nonblocking: bool = True, cloexec: bool = True
) -> Device:
    """Open a device by name.

    Args:
        name: a path; ``fake:`` for a fake in this process or ``fake:unix:PATH`` for one that a
            server has, either with or without ``?domid=N``; None for what the environment variable
            XENEVTCHN_DEVICE says, or else /dev/xen/evtchn.
        nonblocking: whether the descriptor is opened with O_NONBLOCK.
        cloexec: whether the descriptor is closed when the process executes another program.

    Raises:
        OSError: it cannot be opened; a note says what to do.
        ValueError: it starts with ``fake:`` and no fake is called so.
    """
    path = os.fspath(
        name if name is not None else os.environ.get(DEVICE_VARIABLE) or DEFAULT_DEVICE
    )
    if path.startswith("fake:"):
        from .fake import open_named  # noqa: PLC0415 - only those who open a fake load it

        return open_named(path, nonblocking=nonblocking, cloexec=cloexec)
    from .kernel import KernelDevice  # noqa: PLC0415 - only those who open it load the compiled code

    return KernelDevice.open(path, nonblocking=nonblocking, cloexec=cloexec)


def adopt_device(fd: int, *, closefd: bool) -> Device:
    """Make a device of a descriptor that is open already.

    Raises:
        OSError: EBADF where it is not open, ENOTTY where it is no event-channel device.
    """
    # A descriptor can be a fake's only where the fake has been loaded to open it.
    fake = sys.modules.get("pyxenevtchn.fake.device")
    if fake and (device := fake.adopt(fd, closefd=closefd)):
        return cast("Device", device)
    from .kernel import KernelDevice  # noqa: PLC0415 - only those who adopt it load the compiled code

    return KernelDevice(fd, f"fd {fd}", closefd=closefd)

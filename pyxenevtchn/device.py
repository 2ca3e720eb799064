"""The seam: what a device does for an EventChannel, and how a name becomes a device.

Everything above calls a device through this protocol alone, so it is the same code on the real
driver and on the fake.
"""

import os
import sys
from collections.abc import Hashable
from typing import Protocol, cast

from .abi import Request

DEFAULT_DEVICE = "/dev/xen/evtchn"
DEVICE_VARIABLE = "XENEVTCHN_DEVICE"


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

    def notify_many(self, ports: memoryview) -> tuple[int, int]:
        """Make NOTIFY of each port in turn, of 32-bit words, until one fails.

        Returns:
            How many were sent, and the errno of the next one; 0 where all were.
        """

    def readinto(self, buffer: memoryview) -> int:
        """Take pending ports off the ring as ``read`` does; return the bytes written."""

    def read(self, size: int) -> bytes:
        """Take at most ``size`` bytes of pending ports off the ring, as the driver's read does.

        Raises:
            BlockingIOError: the ring is empty and the device does not block.
            RingOverflow: events were dropped since the last RESET.
        """

    def write(self, data: memoryview) -> int:
        """Unmask the ports in ``data``; return how many bytes the driver took (a page at most)."""

    def close(self) -> None:
        """Release the descriptor and, if it was the last one of its file, every port."""


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

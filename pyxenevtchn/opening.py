"""How a name or a descriptor becomes a device: the one module that knows both real and fake."""

import os
import sys
from typing import cast

from .device import DEFAULT_DEVICE, Device

DEVICE_VARIABLE = "XENEVTCHN_DEVICE"


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
        TypeError: it is no name.
    """
    if name is None:
        name = os.environ.get(DEVICE_VARIABLE) or DEFAULT_DEVICE
    # Of those who have no type checker, it may be anything.
    known = isinstance(name, str | os.PathLike)
    path = os.fspath(name) if known else None
    if not isinstance(path, str):
        raise TypeError(f"a device is named by a str or a path of str, not {name!r}")
    if path.startswith("fake:"):
        from .fake import open_named  # noqa: PLC0415 - only those who open a fake load it

        return open_named(path, nonblocking=nonblocking, cloexec=cloexec)
    from .kernel import open_kernel  # noqa: PLC0415 - only those who open it load the compiled code

    return open_kernel(path, nonblocking=nonblocking, cloexec=cloexec)


def adopt_device(fd: int) -> Device:
    """Make a device of a descriptor that is open already; it stays its owner's to close.

    Raises:
        OSError: EBADF where it is not open, ENOTTY where it is no event-channel device.
    """
    # A descriptor can be a fake's only where the fake has been loaded to open it.
    fake = sys.modules.get("pyxenevtchn.fake.device")
    if fake and (device := cast("Device | None", fake.adopt(fd))):
        return device
    from .kernel import adopt_kernel  # noqa: PLC0415 - as above

    return adopt_kernel(fd)

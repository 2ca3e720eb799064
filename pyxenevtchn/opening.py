"""Make a device of a name or a descriptor: the only module that knows both real and fake."""

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
        name: a path; ``fake:``, a fake in this process, or ``fake:unix:PATH``, that of a server,
            each with an optional ``?domid=N``; None: the value of the environment variable
            XENEVTCHN_DEVICE, or /dev/xen/evtchn if it is not set.
        nonblocking: whether the descriptor is opened with O_NONBLOCK.
        cloexec: whether the descriptor is closed when the process executes another program.

    Raises:
        OSError: the device cannot be opened; a note says what to do.
        ValueError: the name starts with ``fake:`` and is not valid.
        TypeError: ``name`` is neither a str nor a path of str.
    """
    if name is None:
        name = os.environ.get(DEVICE_VARIABLE) or DEFAULT_DEVICE
    # Callers without a type checker may pass anything.
    known = isinstance(name, str | os.PathLike)
    path = os.fspath(name) if known else None
    if not isinstance(path, str):
        raise TypeError(f"the device must be a str or a path of str, not {name!r}")
    if path.startswith("fake:"):
        from .fake import open_named  # noqa: PLC0415 - loaded only for a fake

        return open_named(path, nonblocking=nonblocking, cloexec=cloexec)
    from .kernel import open_kernel  # noqa: PLC0415 - loads the compiled code

    return open_kernel(path, nonblocking=nonblocking, cloexec=cloexec)


def adopt_device(fd: int) -> Device:
    """Make a device of a descriptor that is already open; its owner still closes it.

    Raises:
        OSError: EBADF: it is not open. ENOTTY: it is not an event-channel device. EMFILE.
    """
    # Only a process that has loaded the fake can have a fake's descriptor.
    fake = sys.modules.get("pyxenevtchn.fake.device")
    if fake and (device := cast("Device | None", fake.adopt(fd))):
        return device
    from .kernel import adopt_kernel  # noqa: PLC0415 - as above

    return adopt_kernel(fd)

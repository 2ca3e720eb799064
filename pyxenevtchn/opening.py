"""Make a device of a name or a descriptor.

The kernel's devices are known here. Other kinds register themselves.
"""

import os
from collections.abc import Callable
from typing import TYPE_CHECKING, Protocol

from .abi import DEFAULT_DEVICE

if TYPE_CHECKING:
    from .device import Device

DEVICE_VARIABLE = "XENEVTCHN_DEVICE"


class OpenByName(Protocol):
    """Opens a device by a name."""

    def __call__(self, name: str, *, nonblocking: bool, cloexec: bool) -> "Device":
        """Open it."""


_kinds: dict[str, OpenByName] = {}
_adopters: list[Callable[[int], "Device | None"]] = []


def register_names(prefix: str, open_by_name: OpenByName) -> None:
    """Register a kind of device, whose names start with ``prefix``."""
    _kinds[prefix] = open_by_name


def register_descriptors(adopt: Callable[[int], "Device | None"]) -> None:
    """Register a function that makes a device of a descriptor of its kind; None for any other."""
    _adopters.append(adopt)


def open_device(
    name: str | os.PathLike[str] | None = None, *, nonblocking: bool = True, cloexec: bool = True
) -> "Device":
    """Open a device by name.

    Args:
        name: a path; ``fake:``, a fake in this process, or ``fake:unix:PATH``, that of a server,
            each with an optional ``?domid=N``; None: the value of the environment variable
            XENEVTCHN_DEVICE, or /dev/xen/evtchn if it is not set.
        nonblocking: whether ``read`` fails where it would wait.
        cloexec: whether the descriptor is closed when the process executes another program.

    Raises:
        OSError: the device cannot be opened; a note says what to do.
        ValueError: the name starts with ``fake:`` and is not valid.
        TypeError: ``name`` is neither a str nor a path of str.
    """
    from .kernel import open_kernel  # noqa: PLC0415 - loads the compiled code

    if name is None:
        name = os.environ.get(DEVICE_VARIABLE) or DEFAULT_DEVICE
    # Callers without a type checker may pass anything.
    known = isinstance(name, str | os.PathLike)
    path = os.fspath(name) if known else None
    if not isinstance(path, str):
        raise TypeError(f"the device must be a str or a path of str, not {name!r}")
    for prefix, open_by_name in _kinds.items():
        if path.startswith(prefix):
            return open_by_name(path, nonblocking=nonblocking, cloexec=cloexec)
    return open_kernel(path, nonblocking=nonblocking, cloexec=cloexec)


def adopt_device(fd: int) -> "Device":
    """Make a device of a descriptor that is already open; its owner still closes it.

    Raises:
        OSError: EBADF: it is not open. ENOTTY: it is not an event-channel device.
    """
    from .kernel import adopt_kernel  # noqa: PLC0415 - as above

    for adopt in _adopters:
        device = adopt(fd)
        if device is not None:
            return device
    return adopt_kernel(fd)

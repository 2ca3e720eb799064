"""Xen event channels from Python.

``EventChannel`` is a handle of /dev/xen/evtchn, the Linux driver that gives user space access to
Xen's event channels. Importing this package loads neither the compiled module nor asyncio: each
name loads what it needs.
"""

from importlib import import_module
from typing import TYPE_CHECKING

from . import opening
from .abi import (
    DOMID_COW,
    DOMID_FIRST_RESERVED,
    DOMID_IDLE,
    DOMID_INVALID,
    DOMID_IO,
    DOMID_SELF,
    DOMID_XEN,
    Request,
    Virq,
    VirqScope,
)
from .errors import ChannelClosed, PartialNotify, RingOverflow, StaleHandle

if TYPE_CHECKING:
    from .aio import AsyncEventChannel
    from .aio_resumes import AsyncResumes
    from .bindings import Binding
    from .channel import EventChannel
    from .device import Device
    from .resumes import Resumes

    __version__: str

__all__ = [
    "DOMID_COW",
    "DOMID_FIRST_RESERVED",
    "DOMID_IDLE",
    "DOMID_INVALID",
    "DOMID_IO",
    "DOMID_SELF",
    "DOMID_XEN",
    "AsyncEventChannel",
    "AsyncResumes",
    "Binding",
    "ChannelClosed",
    "Device",
    "EventChannel",
    "PartialNotify",
    "Request",
    "Resumes",
    "RingOverflow",
    "StaleHandle",
    "Virq",
    "VirqScope",
]


_MODULES = {
    "AsyncEventChannel": "aio",
    "AsyncResumes": "aio_resumes",
    "Binding": "bindings",
    "Device": "device",
    "EventChannel": "channel",
    "Resumes": "resumes",
}


def __getattr__(name: str) -> object:
    if name == "__version__":
        from importlib.metadata import version  # noqa: PLC0415 - slow to import

        return version(__name__)
    if name in _MODULES:
        return getattr(import_module(f".{_MODULES[name]}", __name__), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def _open_fake(name: str, *, nonblocking: bool, cloexec: bool) -> "Device":
    from .fake import open_named  # noqa: PLC0415 - loaded only for a fake

    return open_named(name, nonblocking=nonblocking, cloexec=cloexec)


opening.register_names("fake:", _open_fake)

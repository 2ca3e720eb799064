"""Xen event channels from Python.

``EventChannel`` is a handle of /dev/xen/evtchn, the Linux driver that gives user space access to
Xen's event channels. Importing this package loads neither the compiled module nor asyncio.
"""

from typing import TYPE_CHECKING

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
from .bindings import Binding
from .channel import EventChannel
from .device import Device
from .errors import ChannelClosed, PartialNotify, RingOverflow, StaleHandle

if TYPE_CHECKING:
    from .aio import AsyncEventChannel
    from .aio_resumes import AsyncResumes
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


def __getattr__(name: str) -> object:
    if name == "__version__":
        from importlib.metadata import version  # noqa: PLC0415 - as below

        return version(__name__)
    if name == "AsyncEventChannel":
        from .aio import AsyncEventChannel  # noqa: PLC0415 - asyncio is slow to import

        return AsyncEventChannel
    if name == "AsyncResumes":
        from .aio_resumes import AsyncResumes  # noqa: PLC0415 - as above

        return AsyncResumes
    if name == "Resumes":
        from .resumes import Resumes  # noqa: PLC0415 - rarely used

        return Resumes
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")

"""Xen event channels from Python.

``EventChannel`` is a handle of /dev/xen/evtchn, the Linux driver that gives user space Xen's event
channels. Importing this loads neither the compiled module nor anything that is not used.
"""

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
from .errors import ChannelClosed, RingOverflow

__all__ = [
    "DOMID_COW",
    "DOMID_FIRST_RESERVED",
    "DOMID_IDLE",
    "DOMID_INVALID",
    "DOMID_IO",
    "DOMID_SELF",
    "DOMID_XEN",
    "Binding",
    "ChannelClosed",
    "Device",
    "EventChannel",
    "Request",
    "RingOverflow",
    "Virq",
    "VirqScope",
]

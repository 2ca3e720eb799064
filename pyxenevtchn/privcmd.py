"""A domain's port table, as the hypervisor tells it: EVTCHNOP_status, through /dev/xen/privcmd.

It changes nothing. In dom0 alone, and there root alone, may ask.
"""

import errno
import os

from .abi import DOMID_SELF, FEATURE_DOM0
from .compiled import ffi, lib
from .descriptors import Descriptor
from .errors import privcmd_error
from .ports import Port, State

NODE = "/dev/xen/privcmd"
_FEATURES = "/sys/hypervisor/properties/features"

# By the number that the C function gives: EVTCHNSTAT of Xen's event_channel.h, and Xen's own.
_STATES = (
    None,
    *(State.UNBOUND, State.INTERDOMAIN, State.PIRQ, State.VIRQ, State.IPI),
    State.XEN,
)

# A port's words: state, vCPU, and two that depend on the state.
_WORDS = 4

# How many ports are asked for in one call.
_BATCH = 1024


def port_table(domid: int = DOMID_SELF) -> tuple[Port, ...]:
    """List a domain's ports, by number; those that are closed are left out.

    Args:
        domid: the domain.

    Raises:
        OSError: it cannot be known, and a note says what to do: there is no privcmd
            (FileNotFoundError), it is not for this user, or Xen tells nothing of that domain
            (PermissionError), or has no such domain (ProcessLookupError).
    """
    if _is_domu():
        raise privcmd_error(OSError(errno.EPERM, os.strerror(errno.EPERM), NODE), is_open=True)
    try:
        privcmd = Descriptor(os.open, NODE, os.O_RDWR | os.O_CLOEXEC)
    except OSError as error:
        raise privcmd_error(error, is_open=False) from None
    table: list[Port] = []
    memory = bytearray(4 * _WORDS * _BATCH)
    words, pointer = memoryview(memory).cast("I"), ffi.from_buffer("uint32_t[]", memory)
    first, count = 0, _BATCH
    while count == _BATCH:
        count = lib.port_status(privcmd.number, domid, first, pointer, _BATCH)
        if count < 0:
            raise privcmd_error(OSError(-count, os.strerror(-count), NODE), is_open=True)
        for index in range(count):
            state, vcpu, *rest = words[_WORDS * index : _WORDS * (index + 1)]
            known = _STATES[state]
            if known is not None:
                table.append(_port(first + index, known, vcpu, *rest))
        first += count
    return tuple(table)


def _is_domu() -> bool:
    """Return whether this is known to be a domU, where an open can block forever.

    Linux lets no domU ask, and looks in XenStore for an exception first (privcmd_open, XSA-482).
    """
    try:
        with open(_FEATURES) as file:
            return not int(file.read(), 16) & FEATURE_DOM0
    except OSError as error:
        if not error.errno:
            raise  # a signal handler's
        return False


def _port(port: int, state: State, vcpu: int, what: int, remote_port: int) -> Port:
    match state:
        case State.UNBOUND:
            return Port(port, state, vcpu, remote_domid=what)
        case State.INTERDOMAIN:
            return Port(port, state, vcpu, remote_domid=what, remote_port=remote_port)
        case State.VIRQ:
            return Port(port, state, vcpu, virq=what)
        case State.PIRQ:
            return Port(port, state, vcpu, pirq=what)
        case _:
            return Port(port, state, vcpu)

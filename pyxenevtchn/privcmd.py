"""A domain's port table, as the hypervisor tells it: EVTCHNOP_status, through /dev/xen/privcmd.

It changes nothing. Root alone may ask, and of another domain dom0 alone.
"""

import errno
import os

from .abi import DOMID_SELF
from .compiled import ffi, lib
from .descriptors import Descriptor
from .errors import privcmd_error
from .ports import Port, State

NODE = "/dev/xen/privcmd"
_XENBUS = "/dev/xen/xenbus"

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
    if _never_opens():
        raise privcmd_error(OSError(errno.EPERM, os.strerror(errno.EPERM), NODE), domid)
    try:
        privcmd = Descriptor(os.open, NODE, os.O_RDWR | os.O_CLOEXEC)
    except OSError as error:
        raise privcmd_error(error) from None
    table: list[Port] = []
    memory = bytearray(4 * _WORDS * _BATCH)
    words, pointer = memoryview(memory).cast("I"), ffi.from_buffer("uint32_t[]", memory)
    first, count = 0, _BATCH
    while count == _BATCH:
        count = lib.port_status(privcmd.number, domid, first, pointer, _BATCH)
        if count < 0:
            raise privcmd_error(OSError(-count, os.strerror(-count), NODE), domid)
        for index in range(count):
            state, vcpu, *rest = words[_WORDS * index : _WORDS * (index + 1)]
            known = _STATES[state]
            if known is not None:
                table.append(_port(first + index, known, vcpu, *rest))
        first += count
    return tuple(table)


def _never_opens() -> bool:
    """Return whether an open would wait for ever: for XenStore, in a domain that has none.

    The driver looks there, in a domU, for the one domain that its hypercalls may be about
    (privcmd_open, since XSA-482). xenbus says ENOENT where there is no XenStore.
    """
    try:
        Descriptor(os.open, _XENBUS, os.O_RDONLY | os.O_CLOEXEC).close()
    except OSError as error:
        if not error.errno:
            raise  # a signal handler's
        return error.errno == errno.ENOENT and os.path.exists(_XENBUS)
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

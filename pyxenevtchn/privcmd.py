"""A domain's port table from the hypervisor: EVTCHNOP_status, through /dev/xen/privcmd.

It changes nothing. Only root in dom0 may use it.
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

# Indexed by the state that port_status writes: EVTCHNSTAT of Xen's event_channel.h, then XEN.
_STATES = (
    None,
    *(State.UNBOUND, State.INTERDOMAIN, State.PIRQ, State.VIRQ, State.IPI),
    State.XEN,
)

# A port's words: state, vCPU, and two that depend on the state.
_WORDS = 4

# Ports per call.
_BATCH = 1024


def port_table(domid: int = DOMID_SELF) -> tuple[Port, ...]:
    """Return a domain's ports, in order of number, without the closed ones.

    Args:
        domid: the domain's domid.

    Raises:
        FileNotFoundError: privcmd does not exist; a note says what to do, here and below.
        PermissionError: this user may not open it, or Linux or Xen forbids the request.
        ProcessLookupError: no domain has that domid.
        OSError: another error of privcmd.
    """
    if _is_domu():
        raise privcmd_error(OSError(errno.EPERM, os.strerror(errno.EPERM), NODE), is_open=True)
    try:
        privcmd = Descriptor.open(NODE, os.O_RDWR | os.O_CLOEXEC)
    except OSError as error:
        error.filename = NODE
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
    """Return whether this is known to be a domU, where opening privcmd can block forever.

    There Linux forbids the request, but first looks for an exception in XenStore (privcmd_open,
    XSA-482).
    """
    try:
        with open(_FEATURES) as file:
            return not int(file.read(), 16) & FEATURE_DOM0
    except OSError as error:
        if not error.errno:
            raise  # from a signal handler
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

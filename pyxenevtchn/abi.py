"""Definitions from <xen/evtchn.h> and Xen's public headers: requests, VIRQs, domids, packed ports.

Pure: nothing here makes a system call. The requests' numbers are in the compiled module.
"""

import enum
import operator
import sys
from array import array
from collections.abc import Iterable
from typing import Literal, Self, SupportsIndex, cast

DEFAULT_DEVICE = "/dev/xen/evtchn"
"""The driver's device node."""

FEATURE_DOM0 = 1 << 11
"""XENFEAT_dom0, a bit of Xen's features: this domain is dom0."""

DOMID_FIRST_RESERVED = 0x7FF0
DOMID_SELF = 0x7FF0
DOMID_IO = 0x7FF1
DOMID_XEN = 0x7FF2
DOMID_COW = 0x7FF3
DOMID_INVALID = 0x7FF4
DOMID_IDLE = 0x7FFF

DOMID_MAX = 0xFFFF
UINT32_MAX = 0xFFFF_FFFF
PORT_BYTES = 4
_BYTE_ORDER = sys.byteorder

Packed = bytes | memoryview

# The most digits of a valid number; int() raises for a text of thousands of digits.
_DIGITS = len(str(UINT32_MAX))


class Request(enum.StrEnum):
    """The driver's requests, named as in its header and in error messages."""

    BIND_VIRQ = "bind_virq"
    BIND_INTERDOMAIN = "bind_interdomain"
    BIND_UNBOUND_PORT = "bind_unbound_port"
    UNBIND = "unbind"
    NOTIFY = "notify"
    RESET = "reset"
    RESTRICT_DOMID = "restrict_domid"
    BIND_STATIC = "bind_static"

    @property
    def parameters(self) -> tuple[str, ...]:
        """The names of the fields of the request's struct, in order."""
        return _PARAMETERS[self]

    # Enum.__hash__ is Python code, and every request looks up its function in a dict.
    __hash__ = str.__hash__


_PARAMETERS = {
    Request.BIND_VIRQ: ("virq",),
    Request.BIND_INTERDOMAIN: ("remote_domain", "remote_port"),
    Request.BIND_UNBOUND_PORT: ("remote_domain",),
    Request.UNBIND: ("port",),
    Request.NOTIFY: ("port",),
    Request.RESET: (),
    Request.RESTRICT_DOMID: ("domid",),
    Request.BIND_STATIC: ("port",),
}


class VirqScope(enum.StrEnum):
    """How often Xen lets a VIRQ be bound, and which of its events a binding receives."""

    VCPU = "vcpu"
    """Once for each vCPU. The driver binds it on vCPU 0."""
    DOMAIN = "domain"
    """Once for each domain."""
    GLOBAL = "global"
    """Raised only in one domain, its handler: dom0, unless the toolstack sets another."""


class Virq(enum.IntEnum):
    """Xen's virtual interrupts, by the names and numbers of its public headers."""

    TIMER = 0
    DEBUG = 1
    CONSOLE = 2
    DOM_EXC = 3
    TBUF = 4
    DEBUGGER = 6
    XENOPROF = 7
    CON_RING = 8
    PCPU_STATE = 9
    MEM_EVENT = 10
    ARGO = 11
    ENOMEM = 12
    XENPMU = 13
    ARCH_0 = 16
    ARCH_1 = 17
    ARCH_2 = 18
    ARCH_3 = 19
    ARCH_4 = 20
    ARCH_5 = 21
    ARCH_6 = 22
    ARCH_7 = 23
    MCA = ARCH_0

    @property
    def scope(self) -> VirqScope:
        """Whether the VIRQ is per vCPU, per domain or global (hypervisor)."""
        return virq_scope(self)

    @classmethod
    def parse(cls, text: str | SupportsIndex) -> Self:
        """Find a VIRQ by name or number.

        Args:
            text: a name in either case, with or without ``VIRQ_``, with ``-`` or ``_``, or a
                number as an int or in decimal: ``"CON_RING"``, ``"virq-con-ring"``, ``"8"``, 8.

        Raises:
            ValueError: no VIRQ has that name or number.
            TypeError: neither a string nor an integer.
        """
        if not isinstance(text, str):
            number = operator.index(text)
        elif text.isascii() and text.strip().isdecimal() and len(text) <= _DIGITS:
            number = int(text)
        else:
            name = text.strip().upper().replace("-", "_").removeprefix("VIRQ_")
            if name in cls.__members__:
                return cls[name]
            number = -1
        try:
            return cls(number)
        except ValueError:
            names = ", ".join(cls.__members__)
            raise ValueError(f"no VIRQ is called {text!r}: the names are {names}") from None


NR_VIRQS = 24
"""Xen refuses this VIRQ and every higher one with EINVAL."""

_SCOPES: dict[int, VirqScope] = {
    Virq.TIMER: VirqScope.VCPU,
    Virq.DEBUG: VirqScope.VCPU,
    Virq.XENOPROF: VirqScope.VCPU,
    Virq.XENPMU: VirqScope.VCPU,
    Virq.ARGO: VirqScope.DOMAIN,
}


def virq_scope(virq: int) -> VirqScope:
    """Return the scope of any VIRQ number; one without a name is global (hypervisor)."""
    return _SCOPES.get(virq, VirqScope.GLOBAL)


def virq_name(virq: int) -> str:
    """Return the VIRQ's name, or its number as text if it has no name."""
    try:
        return Virq(virq).name
    except ValueError:
        return str(virq)


Machine = Literal["pv", "pvh", "arm64"]
"""The kinds of dom0: PV and PVH on x86, and arm64."""

DOM0_KERNEL_VIRQS: dict[Machine, tuple[Virq, ...]] = {
    "pv": (Virq.TIMER, Virq.PCPU_STATE, Virq.MCA, Virq.CONSOLE),
    "pvh": (Virq.TIMER, Virq.PCPU_STATE, Virq.CONSOLE),
    "arm64": (Virq.CONSOLE,),
}
"""The VIRQs that Linux itself binds in dom0, in this order."""

KERNEL = "the kernel"

# What each VIRQ means, and which program usually holds it in dom0.
_ABOUT: dict[int, tuple[str, str | None]] = {
    Virq.TIMER: ("a vCPU's timer expired", None),
    Virq.DEBUG: ("the domain is asked to dump its state", None),
    Virq.CONSOLE: ("input on Xen's emergency console", None),
    Virq.DOM_EXC: ("a domain shut down, crashed or died", "xenstored"),
    Virq.TBUF: ("Xen's trace buffers have records", "xentrace"),
    Virq.DEBUGGER: ("a domain paused for its debugger", None),
    Virq.XENOPROF: ("the profiler has a new sample", None),
    Virq.CON_RING: ("Xen wrote to its console ring", "xenconsoled, when it logs the hypervisor"),
    Virq.PCPU_STATE: ("a physical CPU went online or offline", None),
    Virq.MEM_EVENT: ("a memory event in a domain", None),
    Virq.ARGO: ("an Argo message arrived", None),
    Virq.ENOMEM: ("Xen is low on memory", "xen-lowmemd"),
    Virq.XENPMU: ("a performance counter overflowed", None),
    Virq.ARCH_0: ("a machine check, on x86 (MCA)", None),
}


def virq_meaning(virq: int, machine: Machine = "pv") -> str:
    """Return what the VIRQ means; one without a known meaning is architecture-specific."""
    own = "architecture-specific"
    if virq >= Virq.ARCH_0 and machine == "arm64":
        return own  # Xen for Arm does not use any of them so far
    return _ABOUT.get(virq, (own, None))[0]


def virq_holder(virq: int, machine: Machine = "pv") -> str | None:
    """Return who usually holds the VIRQ in dom0: KERNEL, a program, or None if it is not known."""
    if virq in DOM0_KERNEL_VIRQS[machine]:
        return KERNEL
    return _ABOUT.get(virq, ("", None))[1]


def check_uint32(name: str, value: SupportsIndex) -> int:
    """Return the value as an int that fits the driver's 32-bit field.

    Raises:
        TypeError: not an integer.
        ValueError: negative, or over 32 bits.
    """
    # The fast path for nearly all values.
    if type(value) is int and not value >> 32:
        return value
    return _check(name, value, UINT32_MAX)


def check_domid(name: str, value: SupportsIndex) -> int:
    """Return the value as a domid; the kernel would silently cut a larger one to 16 bits.

    Raises:
        TypeError: not an integer.
        ValueError: negative, or over 16 bits.
    """
    if type(value) is int and not value >> 16:
        return value
    return _check(name, value, DOMID_MAX)


def _check(name: str, value: SupportsIndex, most: int) -> int:
    number = operator.index(value)
    if not 0 <= number <= most:
        raise ValueError(f"{name} must be 0 to {most}, not {number}")
    return number


def pack_ports(ports: SupportsIndex | Iterable[SupportsIndex]) -> Packed:
    """Pack one or more ports as the driver reads them: native 32-bit words.

    A contiguous buffer of such words, such as an array("I"), is not copied.

    Returns:
        A buffer of bytes.

    Raises:
        TypeError: an item is not an integer, or ``ports`` is bytes or text.
        ValueError: a port is negative or over 32 bits.
    """
    # Usually one port, or a list of one, is unmasked. A list is not asked for a buffer: that costs
    # as much as packing a hundred ports.
    only = ports[0] if type(ports) is list and len(ports) == 1 else ports
    if type(only) is int and not only >> 32:
        return only.to_bytes(PORT_BYTES, _BYTE_ORDER)
    many = ports
    if not isinstance(ports, list):
        view = _buffer(ports)
        if view is not None and view.format == "I" and view.ndim == 1 and view.contiguous:
            return view.cast("B")
        if isinstance(ports, str) or (view is not None and view.itemsize == 1):
            raise TypeError("ports must be integers, not bytes or text")
        many = list(ports) if isinstance(ports, Iterable) else [ports]
    try:
        packed = array("I", cast("list[int]", many))
    except OverflowError:
        for port in cast("list[int]", many):
            check_uint32("port", port)
        raise
    return memoryview(packed).cast("B")


def _buffer(ports: object) -> memoryview | None:
    try:
        return memoryview(cast("bytes", ports))
    except TypeError:
        return None


def unpack_ports(data: Packed) -> list[int]:
    """Unpack the ports of a driver read: native 32-bit words, oldest event first."""
    return memoryview(data).cast("I").tolist()

"""A line of a domain's port table, as Xen tells it, and what a fake knows besides. Pure."""

import enum
from dataclasses import dataclass


class State(enum.StrEnum):
    """What a port is, in the words of Xen's EVTCHNSTAT; a closed port is in no table."""

    UNBOUND = "unbound"
    INTERDOMAIN = "interdomain"
    PIRQ = "pirq"
    VIRQ = "virq"
    IPI = "ipi"
    XEN = "xen"
    """One whose events Xen itself takes, and of which it tells nothing else (EACCES)."""


@dataclass(frozen=True, slots=True)
class Port:
    """A line of a domain's port table, as lsevtchn lists it; and what a fake alone can know.

    Attributes:
        port: the number.
        state: what it is bound to.
        vcpu: the vCPU that gets its events.
        remote_domid: the domain that may connect to it, or is connected; None for the others.
        remote_port: the other end's number, while connected; else None.
        virq: the VIRQ's number; else None.
        pirq: the physical interrupt's number; else None, and always of a fake's.
        pending: whether an event waits in Xen; None where it is not known, as of a real one's.
        masked: whether it has to; None likewise.
        kernel: whether the domain's kernel holds the port itself; None likewise.
        daemon: which daemon of a fake's dom0 holds it, xenstored or xenconsoled; else None.
        static: whether it was made for BIND_STATIC; None where it is not known.
    """

    port: int
    state: State
    vcpu: int = 0
    remote_domid: int | None = None
    remote_port: int | None = None
    virq: int | None = None
    pirq: int | None = None
    pending: bool | None = None
    masked: bool | None = None
    kernel: bool | None = None
    daemon: str | None = None
    static: bool | None = None

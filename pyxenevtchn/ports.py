"""An entry of a domain's port table: what Xen reports, and what only a fake knows. Pure."""

import enum
from dataclasses import dataclass


class State(enum.StrEnum):
    """A port's state, named as in Xen's EVTCHNSTAT; closed ports are not listed."""

    UNBOUND = "unbound"
    INTERDOMAIN = "interdomain"
    PIRQ = "pirq"
    VIRQ = "virq"
    IPI = "ipi"
    XEN = "xen"
    """Xen itself consumes the port's events; it reports nothing else about it (EACCES)."""


@dataclass(frozen=True, slots=True)
class Port:
    """An entry of a domain's port table, as lsevtchn lists it; and what only a fake knows.

    Attributes:
        port: the number.
        state: what it is bound to.
        vcpu: the vCPU that receives its events.
        remote_domid: the domain that is connected or may connect, for an unbound or interdomain
            port; else None.
        remote_port: the other end's number, for an interdomain port; else None.
        virq: the VIRQ's number; else None.
        pirq: the physical interrupt's number; else None. A fake has no such port.
        pending: whether an event is pending in Xen; None if not known, as on a real Xen.
        masked: whether the port is masked; None if not known.
        kernel: whether the domain's kernel holds the port itself; None if not known.
        daemon: which daemon of a fake's dom0 holds it, xenstored or xenconsoled; else None.
        static: whether it was made for BIND_STATIC; None if not known.
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

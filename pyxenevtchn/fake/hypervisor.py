"""Xen's side: domains, their ports and what the hypercalls do to them.

Pure: no descriptor, no thread, no I/O. A failed operation changes nothing. The rules, the order of
the checks and the errnos are the hypervisor's (its common/event_channel.c).
"""

import enum
import errno
import heapq
import itertools
import os
from collections.abc import Callable

from ..abi import DOMID_FIRST_RESERVED, DOMID_SELF, NR_VIRQS, Virq, VirqScope, virq_scope

MAX_CHANNELS = {"fifo": 131072, "2l": 4096}
"""The number of ports, port 0 among them, by ABI: FIFO, and 2-level on a 64-bit machine (Xen)."""

# The first version that refuses a global VIRQ to a domain which is not its handler.
_HANDLER_CHECKED = (4, 21)


class State(enum.StrEnum):
    """What a port is, in the words of Xen's EVTCHNSTAT. A free port has no Evtchn."""

    UNBOUND = "unbound"
    INTERDOMAIN = "interdomain"
    VIRQ = "virq"
    IPI = "ipi"


class Evtchn:
    """One bound port of a domain.

    Attributes:
        domain: whose port it is.
        port: its number.
        state: what it is bound to.
        remote_domid: the domain that may connect to it or has; else None.
        peer: the other end, while it is interdomain; else None.
        virq: the VIRQ; else None.
        pending: an event has come that the kernel has not taken yet.
        masked: events stay pending, without an upcall.
        interrupts: how many of its events went to an open file of the driver.
    """

    __slots__ = (
        "domain",
        "interrupts",
        "masked",
        "peer",
        "pending",
        "port",
        "remote_domid",
        "state",
        "virq",
    )

    def __init__(
        self,
        domain: "XenDomain",
        port: int,
        state: State,
        *,
        remote_domid: int | None = None,
        virq: int | None = None,
    ) -> None:
        self.domain: XenDomain = domain
        self.port: int = port
        self.state: State = state
        self.remote_domid: int | None = remote_domid
        self.peer: Evtchn | None = None
        self.virq: int | None = virq
        self.pending: bool = False
        self.interrupts: int = 0
        # Linux masks every port at boot, and again whenever it closes one.
        self.masked: bool = True


class Xen:
    """The hypervisor: the domains that there are, dom0 first.

    Args:
        xen_version: (major, minor): whether a global VIRQ binds where it is not handled.
        max_channels: how many ports a domain can have, port 0 included.
    """

    def __init__(self, xen_version: tuple[int, int], max_channels: int) -> None:
        self.xen_version = xen_version
        self.max_channels = max_channels
        self.domains: dict[int, XenDomain] = {}
        self._next_domid = 1
        self.create(0)

    def create(self, domid: int | None = None) -> "XenDomain":
        """Create a domain: with this domid, or the next one that no domain has had (Xen).

        Raises:
            ValueError: the domid is reserved, or a domain has it.
        """
        if domid is None:
            while self._next_domid in self.domains:
                self._next_domid += 1
            domid = self._next_domid
        if not 0 <= domid < DOMID_FIRST_RESERVED:
            raise ValueError(f"domid must be 0 to {DOMID_FIRST_RESERVED - 1}, not {domid}")
        if domid in self.domains:
            raise ValueError(f"there is a domain {domid} already")
        self._next_domid = max(self._next_domid, domid + 1)
        domain = self.domains[domid] = XenDomain(self, domid)
        return domain

    def destroy(self, domain: "XenDomain") -> None:
        """Destroy a domain: close its ports, then tell dom0's toolstack by DOM_EXC (Xen)."""
        for port in list(domain.ports):
            domain.close(port)
        del self.domains[domain.domid]
        self.domains[0].raise_virq(Virq.DOM_EXC)


class XenDomain:
    """A domain and its port table. The methods are the hypercalls that the domain can make.

    Attributes:
        domid: its number.
        ports: the ports that are not free, by number.
        upcall: called with an Evtchn that has become deliverable: pending and not masked.
    """

    upcall: Callable[[Evtchn], None]

    def __init__(self, xen: Xen, domid: int) -> None:
        self.domid = domid
        self.ports: dict[int, Evtchn] = {}
        self.upcall = _ignore
        self._xen = xen
        self._virqs: dict[int, Evtchn] = {}
        # The lowest free port is the least of the freed ones, or else the first never used. Each
        # is taken in one step, for a signal handler may come in between two.
        self._freed: list[int] = []
        self._fresh = itertools.count(1)

    def alloc_unbound(self, remote_domid: int) -> int:
        """Allocate a port that one domain may connect to; whether it exists is not checked (Xen).

        Args:
            remote_domid: that domain, or DOMID_SELF.

        Raises:
            OSError: ENOSPC, no port is free.
        """
        self._require_free_port()
        if remote_domid == DOMID_SELF:
            remote_domid = self.domid
        return self._allocate(State.UNBOUND, remote_domid=remote_domid).port

    def bind_interdomain(self, remote_domid: int, remote_port: int) -> int:
        """Connect a new port to a domain's unbound port; the new port is pending (Xen).

        Raises:
            OSError: ESRCH, no such domain; ENOSPC, no port is free here; EINVAL, the remote port
                is not unbound or is not for this domain. Checked in this order.
        """
        remote = self._xen.domains.get(self.domid if remote_domid == DOMID_SELF else remote_domid)
        if remote is None:
            raise _error(errno.ESRCH)
        self._require_free_port()
        peer = remote.ports.get(remote_port)
        if peer is None or peer.state != State.UNBOUND or peer.remote_domid != self.domid:
            raise _error(errno.EINVAL)
        evtchn = self._allocate(State.INTERDOMAIN, remote_domid=remote.domid)
        peer.state = State.INTERDOMAIN
        evtchn.peer, peer.peer = peer, evtchn
        # Whatever was sent to the unbound port is lost, so Xen makes the new owner look once.
        _set_pending(evtchn)
        return evtchn.port

    def bind_virq(self, virq: int) -> int:
        """Bind a VIRQ, on vCPU 0 if it is one of a vCPU.

        Raises:
            OSError: EINVAL, no such VIRQ; EBUSY, a global one which this domain does not handle
                (from Xen 4.21); EEXIST, bound already; ENOSPC. Checked in this order.
        """
        if not 0 <= virq < NR_VIRQS:
            raise _error(errno.EINVAL)
        is_global = virq_scope(virq) == VirqScope.GLOBAL
        if is_global and self.domid != 0 and self._xen.xen_version >= _HANDLER_CHECKED:
            raise _error(errno.EBUSY)
        if virq in self._virqs:
            raise _error(errno.EEXIST)
        self._require_free_port()
        evtchn = self._virqs[virq] = self._allocate(State.VIRQ, virq=virq)
        return evtchn.port

    def bind_ipi(self) -> int:
        """Bind an inter-processor interrupt, of which kernels have several for each vCPU.

        Raises:
            OSError: ENOSPC, no port is free.
        """
        self._require_free_port()
        return self._allocate(State.IPI).port

    def send(self, port: int) -> None:
        """Send an event to the other end; where nobody is connected it is dropped (Xen).

        Raises:
            OSError: EINVAL, the port is free or has no other end by its nature.
        """
        evtchn = self.ports.get(port)
        if evtchn is None or evtchn.state == State.VIRQ:
            raise _error(errno.EINVAL)
        if evtchn.peer is not None:
            _set_pending(evtchn.peer)

    def raise_virq(self, virq: int) -> None:
        """Raise a VIRQ in this domain; where it is not bound it is dropped (Xen)."""
        evtchn = self._virqs.get(virq)
        if evtchn is not None:
            _set_pending(evtchn)

    def unmask(self, port: int) -> None:
        """Let a port's events through; one that is pending comes now.

        Raises:
            OSError: EINVAL, the port is free.
        """
        evtchn = self.ports.get(port)
        if evtchn is None:
            raise _error(errno.EINVAL)
        evtchn.masked = False
        if evtchn.pending:
            self.upcall(evtchn)

    def close(self, port: int) -> None:
        """Free a port. The other end becomes unbound, for this domain, and is not told (Xen).

        Raises:
            OSError: EINVAL, the port is free.
        """
        evtchn = self.ports.pop(port, None)
        if evtchn is None:
            raise _error(errno.EINVAL)
        if evtchn.peer is not None:
            evtchn.peer.state = State.UNBOUND
            evtchn.peer.peer = None
            evtchn.peer = None
        if evtchn.virq is not None:
            del self._virqs[evtchn.virq]
        evtchn.pending = False
        evtchn.masked = True
        heapq.heappush(self._freed, port)

    def _require_free_port(self) -> None:
        if len(self.ports) >= self._xen.max_channels - 1:
            raise _error(errno.ENOSPC)

    def _allocate(
        self, state: State, *, remote_domid: int | None = None, virq: int | None = None
    ) -> Evtchn:
        try:
            port = heapq.heappop(self._freed)
        except IndexError:
            port = next(self._fresh)
        evtchn = Evtchn(self, port, state, remote_domid=remote_domid, virq=virq)
        self.ports[port] = evtchn
        return evtchn


def _ignore(_evtchn: Evtchn) -> None:
    """Do what a domain without a kernel does with an event: leave it pending."""


def _set_pending(evtchn: Evtchn) -> None:
    # An event on a port that has one pending is the same event (Xen).
    if not evtchn.pending:
        evtchn.pending = True
        if not evtchn.masked:
            evtchn.domain.upcall(evtchn)


def _error(number: int) -> OSError:
    return OSError(number, os.strerror(number))

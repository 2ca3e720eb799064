"""Xen's side: domains, their ports and what the hypercalls do to them.

Pure: no descriptor, no thread, no I/O. A failed operation changes nothing. The rules, the order of
the checks and the errnos are the hypervisor's (its common/event_channel.c, unless another file is
named).
"""

import errno
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from ...abi import DOMID_FIRST_RESERVED, DOMID_SELF, NR_VIRQS, Virq, VirqScope, virq_scope
from ...ports import State
from .failure import Refusal, fail
from .free_ports import FreePorts
from .xsm import Xsm

MAX_CHANNELS = {"fifo": 131072, "2l": 4096}
"""The number of ports, port 0 among them, by ABI: FIFO, and 2-level on a 64-bit machine (Xen)."""

# The first version that refuses a global VIRQ to a domain which is not its handler
# (evtchn_bind_virq), and a new handler while the old one has it bound (set_global_virq_handler).
_HANDLER_CHECKED = (4, 21)


class Evtchn:
    """A port of a domain that is not free.

    Attributes:
        domain: the domain that has it.
        port: its number.
        state: what it is bound to.
        remote_domid: the domain that may connect or is connected; else None.
        peer: the other end, while it is interdomain; else None.
        virq: the VIRQ; else None.
        pending: an event has come that the kernel has not taken yet.
        masked: events stay pending, without an upcall.
        interrupts: the number of its events that went to an open file of the driver.
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
    """The hypervisor and its domains, dom0 first.

    Args:
        xen_version: (major, minor); decides who may bind global VIRQs.
        max_channels: the number of ports of a domain, port 0 included.
        xsm: which domains may connect to each other.

    Attributes:
        domains: the domains that exist, by domid, dying ones included.
    """

    def __init__(self, xen_version: tuple[int, int], max_channels: int, xsm: Xsm) -> None:
        self.max_channels = max_channels
        self.xsm = xsm
        self.domains: dict[int, XenDomain] = {}
        self._handlers_checked = xen_version >= _HANDLER_CHECKED
        self._virq_handlers: dict[int, XenDomain] = {}
        self._next_domid = 1
        self.create(0)

    def create(self, domid: int | None = None, max_port: int | None = None) -> "XenDomain":
        """Create a domain.

        Args:
            domid: its domid; None for the next one that no domain has had.
            max_port: the highest port that it may have (max_evtchn_port); None for no limit but
                the ABI's.

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
            raise ValueError(f"domain {domid} exists already")
        self._next_domid = max(self._next_domid, domid + 1)
        domain = self.domains[domid] = XenDomain(self, domid, max_port)
        return domain

    def shut_down(self) -> None:
        """Raise VIRQ_DOM_EXC, for a domain that shut down, crashed or suspended.

        Xen's function is domain_shutdown, in common/domain.c.
        """
        self.send_global_virq(Virq.DOM_EXC)

    def kill(self, domain: "XenDomain") -> None:
        """Destroy a domain, except its domid (domain_kill, common/domain.c).

        dom0 handles its global VIRQs again (clear_global_virq_handlers).
        """
        for port in sorted(domain.ports, reverse=True):
            domain.close(port)
        for virq, handler in list(self._virq_handlers.items()):
            if handler is domain:
                del self._virq_handlers[virq]
        self.send_global_virq(Virq.DOM_EXC)

    def free(self, domain: "XenDomain") -> None:
        """Free the domid of a domain that was killed (complete_domain_destroy)."""
        del self.domains[domain.domid]
        self.send_global_virq(Virq.DOM_EXC)

    def forget(self, domain: "XenDomain") -> None:
        """Undo the creation of a domain and its static channels."""
        for evtchn in list(domain.ports.values()):
            if evtchn.peer is not None and evtchn.peer.domain is not domain:
                evtchn.peer.domain.close(evtchn.peer.port)
        del self.domains[domain.domid]

    def connect_static(self, a: "XenDomain", a_port: int, b: "XenDomain", b_port: int) -> None:
        """Create two connected ports with these numbers (alloc_static_evtchn in arch/arm).

        Xen does it before the domains run, and does not ask the policy.

        Raises:
            OSError: ENOSPC, a number is too high for its domain; EBUSY, it is not free.
        """
        a.free_ports.claim(a_port)
        try:
            b.free_ports.claim(b_port)
        except BaseException:
            a.free_ports.give_back(a_port)
            raise
        peer = a.ports[a_port] = Evtchn(a, a_port, State.UNBOUND, remote_domid=b.domid)
        _connect(b, b_port, peer)
        a.static.add(a_port)
        b.static.add(b_port)

    def virq_handler(self, virq: int) -> "XenDomain":
        """Return the domain that handles a global VIRQ."""
        return self._virq_handlers.get(virq, self.domains[0])

    def set_virq_handler(self, virq: int, domain: "XenDomain") -> None:
        """Make a domain the handler of a global VIRQ (set_global_virq_handler).

        Raises:
            OSError: EINVAL, not a global VIRQ; EBUSY, the handler so far has it bound (from 4.21).
        """
        if not 0 <= virq < NR_VIRQS or virq_scope(virq) != VirqScope.GLOBAL:
            fail(errno.EINVAL)
        old = self.virq_handler(virq)
        if self._handlers_checked and old is not domain and old.is_bound(virq):
            fail(errno.EBUSY)
        self._virq_handlers[virq] = domain

    def send_global_virq(self, virq: int) -> None:
        """Raise a global VIRQ in its handler."""
        self.virq_handler(virq).raise_virq(virq)

    def may_bind(self, domain: "XenDomain", virq: int) -> bool:
        """Return whether a domain may bind a VIRQ."""
        return (
            not self._handlers_checked
            or virq_scope(virq) != VirqScope.GLOBAL
            or self.virq_handler(virq) is domain
        )


class XenDomain:
    """A domain and its port table. The methods are the hypercalls that the domain can make.

    Attributes:
        domid: its number.
        max_port: the highest port that the toolstack allows; None for no limit.
        ports: the ports that are not free, by number.
        free_ports: the free numbers.
        static: the ports that Xen created for a device tree.
        upcall: called with an Evtchn that has become deliverable: pending and not masked.
    """

    upcall: Callable[[Evtchn], object]

    def __init__(self, xen: Xen, domid: int, max_port: int | None) -> None:
        highest = xen.max_channels - 1
        self.domid = domid
        self.max_port = max_port
        self.ports: dict[int, Evtchn] = {}
        self.free_ports: FreePorts = FreePorts(
            highest if max_port is None else min(highest, max_port)
        )
        self.static: set[int] = set()
        self.upcall = _ignore
        self._xen = xen
        self._virqs: dict[int, Evtchn] = {}

    def alloc_unbound(self, remote_domid: int) -> int:
        """Allocate a port that one domain may connect to (evtchn_alloc_unbound).

        Args:
            remote_domid: that domain, or DOMID_SELF. By default it need not exist.

        Raises:
            OSError: ENOSPC, no port is free; then the policy's error.
        """
        port = self.free_ports.take()
        if remote_domid == DOMID_SELF:
            remote_domid = self.domid
        try:
            exists = remote_domid in self._xen.domains
            with _policy():
                self._xen.xsm.evtchn_unbound(self.domid, remote_domid, exists=exists)
        except BaseException:
            self.free_ports.give_back(port)
            raise
        self.ports[port] = Evtchn(self, port, State.UNBOUND, remote_domid=remote_domid)
        return port

    def bind_interdomain(self, remote_domid: int, remote_port: int) -> int:
        """Connect a new port to a domain's unbound port (evtchn_bind_interdomain).

        Raises:
            OSError: ESRCH, no such domain; ENOSPC, no port is free here; EINVAL, the remote port
                is not unbound or is not for this domain; the policy's error. In this order.
        """
        remote = self._xen.domains.get(self.domid if remote_domid == DOMID_SELF else remote_domid)
        if remote is None:
            fail(errno.ESRCH)
        port = self.free_ports.take()
        try:
            peer = remote.ports.get(remote_port)
            if peer is None or peer.state != State.UNBOUND or peer.remote_domid != self.domid:
                fail(errno.EINVAL)
            with _policy():
                self._xen.xsm.evtchn_interdomain(self.domid, remote.domid)
        except BaseException:
            self.free_ports.give_back(port)
            raise
        _connect(self, port, peer)
        return port

    def bind_virq(self, virq: int) -> int:
        """Bind a VIRQ; a per-vCPU one on vCPU 0 (evtchn_bind_virq).

        Raises:
            OSError: EINVAL, no such VIRQ; EBUSY, a global one that this domain does not handle
                (from 4.21); EEXIST, bound already; ENOSPC, no port is free. In this order.
        """
        if not 0 <= virq < NR_VIRQS:
            fail(errno.EINVAL)
        if not self._xen.may_bind(self, virq):
            fail(errno.EBUSY)
        if virq in self._virqs:
            fail(errno.EEXIST)
        number = self.free_ports.take()
        evtchn = self._virqs[virq] = Evtchn(self, number, State.VIRQ, virq=virq)
        self.ports[number] = evtchn
        return number

    def bind_ipi(self) -> int:
        """Bind an inter-processor interrupt: kernels have several for each vCPU.

        Raises:
            OSError: ENOSPC, no port is free.
        """
        return self._bind_own(State.IPI)

    def bind_pirq(self) -> int:
        """Bind a physical interrupt: dom0's kernel has one for each device.

        Raises:
            OSError: ENOSPC, no port is free.
        """
        return self._bind_own(State.PIRQ)

    def is_bound(self, virq: int) -> bool:
        """Return whether this domain has bound a VIRQ."""
        return virq in self._virqs

    def send(self, port: int) -> None:
        """Send an event to the other end; drop it if nobody is connected (evtchn_send).

        Raises:
            OSError: EINVAL, the port is free, or of a VIRQ or a physical interrupt.
        """
        evtchn = self.ports.get(port)
        if evtchn is None:
            fail(errno.EINVAL)
        if evtchn.peer is not None:
            _set_pending(evtchn.peer)
        elif evtchn.state in _NOT_SENDABLE:
            fail(errno.EINVAL)

    def raise_virq(self, virq: int) -> None:
        """Raise a VIRQ in this domain; drop it if it is not bound."""
        evtchn = self._virqs.get(virq)
        if evtchn is not None:
            _set_pending(evtchn)

    def unmask(self, port: int) -> None:
        """Unmask a port; a pending event arrives now (evtchn_unmask).

        Raises:
            OSError: EINVAL, the port is free.
        """
        evtchn = self.ports.get(port)
        if evtchn is None:
            fail(errno.EINVAL)
        evtchn.masked = False
        if evtchn.pending:
            self.upcall(evtchn)

    def close(self, port: int) -> None:
        """Free a port (evtchn_close).

        The other end becomes unbound, for this domain, and gets no event.

        Raises:
            OSError: EINVAL, the port is free.
        """
        evtchn = self.ports.pop(port, None)
        if evtchn is None:
            fail(errno.EINVAL)
        if evtchn.peer is not None:
            evtchn.peer.state = State.UNBOUND
            evtchn.peer.peer = None
            evtchn.peer = None
        if evtchn.virq is not None:
            del self._virqs[evtchn.virq]
        evtchn.pending = False
        evtchn.masked = True
        self.static.discard(port)
        self.free_ports.give_back(port)

    def _bind_own(self, state: State) -> int:
        number = self.free_ports.take()
        self.ports[number] = Evtchn(self, number, state)
        return number


_NOT_SENDABLE = (State.VIRQ, State.PIRQ)


def _connect(domain: XenDomain, port: int, peer: Evtchn) -> None:
    evtchn = Evtchn(domain, port, State.INTERDOMAIN, remote_domid=peer.domain.domid)
    domain.ports[port] = evtchn
    peer.state = State.INTERDOMAIN
    evtchn.peer, peer.peer = peer, evtchn
    # Events sent to the unbound port are lost, so Xen sends one to the new end.
    _set_pending(evtchn)


def _ignore(_evtchn: Evtchn) -> None:
    """Leave an event pending, for a domain without a kernel."""


def _set_pending(evtchn: Evtchn) -> None:
    # Xen merges an event with one that is pending on the port.
    if not evtchn.pending:
        evtchn.pending = True
        if not evtchn.masked:
            evtchn.domain.upcall(evtchn)


@contextmanager
def _policy() -> Iterator[None]:
    """Refuse as a policy does, which may be a user's."""
    try:
        yield
    except OSError as error:
        raise Refusal(*error.args) from None

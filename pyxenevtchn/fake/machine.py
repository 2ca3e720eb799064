"""Hypervisor and Domain: a whole machine, made of the models, for tests to play with."""

import threading
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from ..abi import NR_VIRQS, Request, VirqScope, virq_name, virq_scope
from ..channel import EventChannel
from .descriptor import PollDescriptor
from .device import Description, FakeDevice, open_files
from .driver import OpenFile
from .hypervisor import MAX_CHANNELS, State, Xen, XenDomain
from .kernel import Kernel

_OPERATIONS = (*Request, "read", "write")


@dataclass(frozen=True, slots=True)
class Port:
    """A line of a domain's port table, as lsevtchn lists it, and what it does not know.

    Attributes:
        port: the number.
        state: what it is bound to.
        remote_domid: the domain that may connect to it, or is connected; None for the others.
        remote_port: the other end's number, while connected; else None.
        virq: the VIRQ's number; else None.
        pending: whether an event waits in Xen.
        masked: whether it has to.
        kernel: whether the domain's kernel holds the port itself.
    """

    port: int
    state: State
    remote_domid: int | None
    remote_port: int | None
    virq: int | None
    pending: bool
    masked: bool
    kernel: bool


class Domain:
    """A domain of a Hypervisor, running Linux. Any thread may call anything at any time."""

    def __init__(
        self, kernel: Kernel, lock: threading.RLock, destroy: Callable[["Domain"], None]
    ) -> None:
        self._kernel = kernel
        self._lock = lock
        self._destroy = destroy

    @property
    def domid(self) -> int:
        """The domain's number."""
        return self._kernel.domain.domid

    def __repr__(self) -> str:
        return f"<Domain {self.domid}{'' if self._kernel.alive else ' destroyed'}>"

    def open(self, *, nonblocking: bool = True) -> EventChannel:
        """Open a handle, as a process in this domain would.

        Raises:
            OSError: EMFILE; ENODEV, the domain was destroyed.
        """
        return EventChannel(self.device(nonblocking=nonblocking))

    def device(self, *, nonblocking: bool = True, cloexec: bool = True) -> FakeDevice:
        """Open the device alone: the driver's file operations, without an EventChannel.

        Raises:
            OSError: EMFILE; ENODEV, the domain was destroyed.
        """
        with self._lock:
            descriptor = PollDescriptor()
            try:
                file = self.open_file(descriptor.show)
            except BaseException:
                descriptor.close()
                raise
            description = Description(file, descriptor, self._lock, self._kernel)
            return FakeDevice.open(
                description, self._name, nonblocking=nonblocking, cloexec=cloexec
            )

    def open_file(self, on_poll: Callable[[int], None]) -> OpenFile:
        """Open a file of the driver without a descriptor, for those who serve it to others.

        Args:
            on_poll: called when what poll says changes (see driver.OpenFile).

        Raises:
            OSError: ENODEV, the domain was destroyed.
        """
        with self._lock:
            try:
                self._kernel.check("open")
            except OSError as error:
                error.filename = self._name
                raise
            return OpenFile(self._kernel, on_poll)

    @property
    def _name(self) -> str:
        return f"fake:?domid={self.domid}" if self.domid else "fake:"

    def fail_next(self, request: Request | Literal["read", "write"], errno: int) -> None:
        """Make the next such call of a handle in this domain fail, and change nothing.

        Called again for the same request, the one after fails too.

        Args:
            request: which request, or "read" or "write".
            errno: what it fails with.

        Raises:
            ValueError: there is no such request.
        """
        if request not in _OPERATIONS:
            raise ValueError(f"request must be one of {', '.join(_OPERATIONS)}, not {request!r}")
        with self._lock:
            self._kernel.failures.setdefault(request, deque()).append(errno)

    def destroy(self) -> None:
        """Destroy the domain, its processes included.

        Its ports are closed: the other ends become unbound and hear nothing, and dom0 gets
        VIRQ_DOM_EXC (Xen). A real domain's processes are no more; here its handles live on, poll
        as POLLERR, and fail every call but close with ENODEV.

        Raises:
            ValueError: it is dom0, or was destroyed already.
        """
        self._destroy(self)


class Hypervisor:
    """A fake Xen with a dom0, and as many other domains as are created.

    Any thread may call anything at any time.

    Args:
        xen_version: (major, minor). From (4, 21) a domain that does not handle a global VIRQ
            cannot bind it; before, it can and the VIRQ never fires.
        abi: "fifo", with 131072 ports to a domain, or "2l", with 4096.
        delivery: "immediate": an event is in the ring before the call that sent it returns. Or
            "manual": it waits, pending, for ``deliver``.

    Raises:
        ValueError: there is no such ABI or delivery.
    """

    def __init__(
        self,
        xen_version: tuple[int, int] = (4, 17),
        abi: Literal["fifo", "2l"] = "fifo",
        delivery: Literal["immediate", "manual"] = "immediate",
    ) -> None:
        if abi not in MAX_CHANNELS:
            raise ValueError(f"abi must be fifo or 2l, not {abi!r}")
        if delivery not in {"immediate", "manual"}:
            raise ValueError(f"delivery must be immediate or manual, not {delivery!r}")
        self._abi = abi
        self._immediate = delivery == "immediate"
        # Reentrant, for signal handlers.
        self._lock = threading.RLock()
        self._xen = Xen(xen_version, MAX_CHANNELS[abi])
        self._kernels: dict[Domain, Kernel] = {}
        self._domains: dict[int, Domain] = {}
        self.dom0: Domain = self._boot(self._xen.domains[0])

    def create_domain(self, domid: int | None = None) -> Domain:
        """Create a domain, with this domid or the next one that none has had.

        Raises:
            ValueError: the domid is reserved, or a domain has it.
        """
        with self._lock:
            return self._boot(self._xen.create(domid))

    def domain(self, domid: int) -> Domain:
        """Return the domain with this domid.

        Raises:
            LookupError: there is none.
        """
        with self._lock:
            if domid not in self._domains:
                there = ", ".join(map(str, self._domains))
                raise LookupError(f"there is no domain {domid}: the domids are {there}")
            return self._domains[domid]

    def ports(self, domid: int) -> tuple[Port, ...]:
        """List a domain's ports, by number: its kernel's own too.

        Raises:
            LookupError: there is no such domain.
        """
        with self._lock:
            kernel = self._kernels[self.domain(domid)]
            return tuple(
                Port(
                    port=port,
                    state=evtchn.state,
                    remote_domid=evtchn.remote_domid,
                    remote_port=evtchn.peer.port if evtchn.peer else None,
                    virq=evtchn.virq,
                    pending=evtchn.pending,
                    masked=evtchn.masked,
                    kernel=port in kernel.own_ports,
                )
                for port, evtchn in sorted(kernel.domain.ports.items())
            )

    def raise_virq(self, virq: int, domain: Domain | None = None) -> None:
        """Raise a VIRQ, as Xen does. Where nobody has bound it nothing happens.

        Args:
            virq: a Virq, or its number.
            domain: where; None for dom0, which is the handler of every global VIRQ here.

        Raises:
            ValueError: there is no such VIRQ, or a global one would be raised where it is not
                handled, or the domain was destroyed.
        """
        with self._lock:
            domain = domain or self.dom0
            if not 0 <= virq < NR_VIRQS:
                raise ValueError(f"virq must be 0 to {NR_VIRQS - 1}, not {virq}")
            if virq_scope(virq) == VirqScope.GLOBAL and domain is not self.dom0:
                raise ValueError(f"Xen raises the global VIRQ {virq_name(virq)} in dom0 alone")
            self._kernel_of(domain).domain.raise_virq(virq)

    def deliver(self) -> int:
        """Run the interrupts that wait, in every domain; return how many were for handles."""
        with self._lock:
            return sum(kernel.deliver() for kernel in self._kernels.values())

    def check_clean(self) -> None:
        """Check that no handle is open and no port bound but the kernels' own.

        Raises:
            AssertionError: something was left behind; the message says what, and where.
        """
        with self._lock:
            left: list[str] = []
            for domid, domain in self._domains.items():
                found = open_files(self._kernels[domain])
                found += [
                    f"port {port.port} ({port.state})"
                    for port in self.ports(domid)
                    if not port.kernel
                ]
                if found:
                    left.append(f"domain {domid}: {', '.join(found)}")
            if left:
                raise AssertionError(f"left behind in {'; '.join(left)}")

    def _boot(self, xen_domain: XenDomain) -> Domain:
        kernel = Kernel(xen_domain, self._abi, self._xen.max_channels, immediate=self._immediate)
        domain = Domain(kernel, self._lock, self._destroy)
        self._kernels[domain] = kernel
        self._domains[domain.domid] = domain
        return domain

    def _destroy(self, domain: Domain) -> None:
        with self._lock:
            kernel = self._kernel_of(domain)
            if domain is self.dom0:
                raise ValueError("dom0 cannot be destroyed")
            del self._kernels[domain], self._domains[domain.domid]
            kernel.shut_down()
            self._xen.destroy(kernel.domain)

    def _kernel_of(self, domain: Domain) -> Kernel:
        if domain not in self._kernels:
            raise ValueError(f"{domain!r} is no domain of this hypervisor, or no longer")
        return self._kernels[domain]

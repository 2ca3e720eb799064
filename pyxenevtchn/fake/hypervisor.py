"""Hypervisor: a whole machine, made of the models, controlled by tests."""

import random
import secrets
from collections.abc import Mapping

from ..abi import NR_VIRQS, Machine, VirqScope, virq_name, virq_scope
from ..ports import Port
from .device import open_files
from .domain import Domain, Domains
from .model.configuration import Abi, Configuration, Delivery, Policy
from .model.life import Lifecycle
from .model.linux import Kernel
from .model.toolstack import Toolstack
from .model.xen import Xen, XenDomain
from .model.xsm import Xsm

GUEST_PORTS = 1023
"""The highest port that xl lets a guest have: max_event_channels of its configuration."""


class Hypervisor:
    """A fake Xen with dom0, and the domains that ``create_domain`` adds.

    Any thread may call any method at any time.

    Args:
        xen_version: (major, minor), from (4, 17). From (4, 21) a domain that does not handle a
            global VIRQ cannot bind it; before, it can and the VIRQ never fires.
        linux: (major, minor) of every domain's kernel, from (5, 11). From (6, 6) there is
            BIND_STATIC; from (6, 7) two handles can hold a port by it.
        machine: "pv", "pvh" or "arm64": which ports the kernels bind themselves.
        abi: "fifo", with 131072 ports in a domain, or "2l", with 4096. With "2l", kernels on x86
            bind VIRQ_DEBUG.
        delivery: "immediate": an event is in the ring before the call that sent it returns.
            "manual": it stays pending until ``deliver``; the events of several ports come in the
            ABI's order. "shuffled": at once, but several in any order, and together or one by
            one, as on several vCPUs.
        xsm: "dummy": every domain may connect to every other; "silo": only to dom0 and itself; or
            a policy of your own.
        seed: for "shuffled": the same seed gives the same order. None for a random one, which
            ``repr`` shows.

    Raises:
        ValueError: an argument has an unknown value.
    """

    def __init__(  # noqa: PLR0913 - each by its name
        self,
        xen_version: tuple[int, int] = (4, 17),
        *,
        linux: tuple[int, int] = (6, 1),
        machine: Machine = "pv",
        abi: Abi = "fifo",
        delivery: Delivery = "immediate",
        xsm: Policy | Xsm = "dummy",
        seed: int | None = None,
    ) -> None:
        if seed is None and delivery == "shuffled":
            seed = secrets.randbits(32)
        self.configuration: Configuration = Configuration(
            xen_version, linux, machine, abi, delivery, xsm, seed
        )
        self._domains = Domains()
        self._lock = self._domains.lock
        self._random = random.Random(seed)  # noqa: S311 - it must be reproducible
        self._xen = Xen(xen_version, self.configuration.max_channels, self.configuration.policy())
        dom0 = self._boot(self._xen.domains[0])
        self._toolstack = Toolstack(dom0)
        self._lifecycle = Lifecycle(self._xen, self._toolstack, at_once=delivery != "manual")
        self.dom0: Domain = Domain(dom0, self._domains, self._lifecycle)

    def __repr__(self) -> str:
        seed = self.configuration.seed
        shown = "" if seed is None else f" seed={seed}"
        return f"<Hypervisor domains={self._domains.domids()}{shown}>"

    def create_domain(
        self,
        domid: int | None = None,
        max_ports: int = GUEST_PORTS,
        static: Mapping[int, tuple[Domain, int]] | None = None,
    ) -> Domain:
        """Create a domain.

        xenstored and xenconsoled connect to its first two ports, from two new ports in dom0.

        Args:
            domid: its number; None for the next one that no domain has had.
            max_ports: the highest port that it can have, its kernel's own ports included; after
                that ENOSPC. xl's max_event_channels.
            static: channels that exist before the domain runs, for BIND_STATIC: for each of the
                domain's ports the other domain and the port there (see ``connect_static``).

        Raises:
            ValueError: the domid is reserved, or a domain has it; or ``max_ports`` is less than
                the kernel itself needs.
            OSError: EBUSY, a static port is not free; ENOSPC, it is too high for its domain.
        """
        with self._lock:
            domain = self._xen.create(domid, max_ports)
            try:
                for port, (other, other_port) in (static or {}).items():
                    remote = self._domains.kernel_of(other).domain
                    self._xen.connect_static(remote, other_port, domain, port)
                kernel = self._boot(domain)
            except BaseException:
                self._xen.forget(domain)
                raise
            self._toolstack.introduce(domain)
            return Domain(kernel, self._domains, self._lifecycle)

    def connect_static(self, a: Domain, a_port: int, b: Domain, b_port: int) -> None:
        """Create a channel between two free ports, as Xen does for a device tree.

        BIND_STATIC takes over the ends. The one of ``b`` has an event.

        Raises:
            OSError: EBUSY, a port is not free; ENOSPC, it is too high for its domain.
            ValueError: a domain was destroyed.
        """
        with self._lock:
            one, other = self._domains.kernel_of(a).domain, self._domains.kernel_of(b).domain
            self._xen.connect_static(one, a_port, other, b_port)

    def domain(self, domid: int) -> Domain:
        """Return the domain with this domid.

        Raises:
            LookupError: there is none.
        """
        with self._lock:
            return self._domains.find(domid)

    def named_domain(self, domid: int) -> Domain:
        """Return the domain that a device's name means: with this domid, or a new one.

        A program opens its device by the same name before and after its domain is restored: a domid
        that no domain has any more means the restored domain.
        """
        with self._lock:
            try:
                return self._domains.find(domid)
            except LookupError:
                former = self._domains.former.get(domid)
                return former if former in self._domains.kernels else self.create_domain(domid)

    def saved_domain(self, domid: int) -> Domain:
        """Return the saved domain that had this domid.

        Raises:
            LookupError: there is none.
        """
        with self._lock:
            if domid not in self._domains.saved:
                raise LookupError(f"no domain {domid} was saved")
            return self._domains.saved[domid]

    def ports(self, domid: int) -> tuple[Port, ...]:
        """List a domain's ports by number, its kernel's own ports included.

        Raises:
            LookupError: there is no such domain.
        """
        with self._lock:
            return self._domains.kernels[self.domain(domid)].port_table()

    def raise_virq(self, virq: int, domain: Domain | None = None) -> None:
        """Raise a VIRQ, as Xen does. Nothing happens if nobody has bound it.

        Args:
            virq: a Virq, or its number.
            domain: where; None for the handler of a global VIRQ, and for dom0 otherwise.

        Raises:
            ValueError: there is no such VIRQ; the domain is not the handler of a global one; or the
                domain was destroyed.
        """
        with self._lock:
            if not 0 <= virq < NR_VIRQS:
                raise ValueError(f"virq must be 0 to {NR_VIRQS - 1}, not {virq}")
            where = None if domain is None else self._domains.kernel_of(domain).domain
            if virq_scope(virq) != VirqScope.GLOBAL:
                (where or self._xen.domains[0]).raise_virq(virq)
                return
            handler = self._xen.virq_handler(virq)
            if where not in {None, handler}:
                name = "dom0" if handler.domid == 0 else f"domain {handler.domid}"
                raise ValueError(f"Xen raises the global VIRQ {virq_name(virq)} only in {name}")
            handler.raise_virq(virq)

    def set_virq_handler(self, virq: int, domain: Domain) -> None:
        """Make a domain the handler of a global VIRQ, as the toolstack can.

        When the domain is destroyed, dom0 is the handler again.

        Args:
            virq: a Virq, or its number.
            domain: the domain.

        Raises:
            OSError: EINVAL, not a global VIRQ; EBUSY, the handler so far has it bound (from Xen
                4.21).
            ValueError: the domain was destroyed.
        """
        with self._lock:
            self._xen.set_virq_handler(virq, self._domains.kernel_of(domain).domain)

    def deliver(
        self, domain: Domain | None = None, most: int | None = None, *, storm: bool = False
    ) -> int:
        """Run the waiting interrupts; return how many were for handles.

        Args:
            domain: only this domain's; None for all, and for the next step of dying domains.
            most: the most that may be for handles; None for all.
            storm: the events come in a flood: the kernel stays in its loop over them until the next
                ``deliver``, and ports that are unmasked meanwhile stay masked until then (Linux
                defers a "late EOI").

        Raises:
            ValueError: the domain was destroyed.
        """
        with self._lock:
            kernels = (
                [self._domains.kernel_of(domain)]
                if domain
                else list(self._domains.kernels.values())
            )
            count = 0
            for kernel in kernels:
                left = None if most is None else most - count
                count += kernel.deliver(left, storm=storm)
            if domain is None:
                self._lifecycle.next_step()
            return count

    def check_clean(self) -> None:
        """Check that no handle is open and no port bound, except the kernels' and static ones.

        Raises:
            AssertionError: something was left behind; the message says what, and where.
        """
        with self._lock:
            left: list[str] = []
            for domain, kernel in self._domains.kernels.items():
                found = open_files(kernel)
                found += [
                    f"port {port.port} ({port.state})"
                    for port in kernel.port_table()
                    if port.port not in kernel.own_ports and port.port not in kernel.domain.static
                ]
                if found:
                    left.append(f"domain {domain.domid}: {', '.join(found)}")
            if left:
                raise AssertionError(f"left behind in {'; '.join(left)}")

    def _boot(self, domain: XenDomain) -> Kernel:
        try:
            return Kernel(domain, self.configuration, self._random)
        except OSError:
            raise ValueError("max_ports is less than the kernel itself needs") from None

"""A domain's Linux, below the driver: who holds which port, and the interrupts.

Pure: no descriptor, no thread, no I/O. The rules are the kernel's (drivers/xen/events, in
events_base.c unless another file is named).
"""

import errno
import os
from collections import deque
from random import Random

from ...ports import Port
from .configuration import Configuration
from .delivery import Delivery, Immediate, Shuffled
from .event_queues import FifoQueue, TwoLevelQueue
from .failure import KernelBug, Refusal, fail
from .irqs import File, Irq, OrphanIrq, SharedIrq
from .kernel_ports import bind_kernel_ports
from .xen import Evtchn, XenDomain

_FIFO_PAGE = 1024

# The first Linux in which two handles can hold a port (IRQF_SHARED in evtchn_bind_to_user).
_SHARED_IRQS = (6, 7)


class Kernel:
    """A domain's Linux: who holds which port, and the interrupts.

    Args:
        domain: the domain that it runs in.
        configuration: its version, its ABI, and when interrupts run.
        random: for "shuffled" delivery.

    Attributes:
        holders: the interrupt handler of each port that open files hold (evtchn_to_irq).
        own_ports: the holder of each port that no open file holds: "kernel", or a daemon of dom0.
        files: the open files.
        nr_channels: one more than the highest port that the kernel is ready for: with the FIFO
            ABI it grows by pages of 1024 (evtchn_fifo_setup).
        gone: why the domain has ended; None while it exists.
        saved: whether the domain is in a file, and not in Xen.
        failures: the errnos that the next calls fail with (see ``fail_next``), by operation.
        must_prepare: whether each call of a file must call ``prepare`` first.
    """

    def __init__(self, domain: XenDomain, configuration: Configuration, random: Random) -> None:
        self.linux: tuple[int, int] = configuration.linux
        self.max_channels: int = configuration.max_channels
        self.files: set[File] = set()
        self.gone: str | None = None
        self.saved: bool = False
        self.failures: dict[str, deque[int]] = {}
        self._configuration = configuration
        self._random = random
        self._always_prepare = configuration.delivery == "shuffled"
        self.must_prepare: bool = self._always_prepare
        self._run_in(domain)

    def _run_in(self, domain: XenDomain) -> None:
        """Start in a domain whose ports nobody holds yet."""
        self.domain: XenDomain = domain
        self.holders: dict[int, Irq] = {}
        self.own_ports: dict[int, str] = {}
        self.nr_channels: int = 0 if self._configuration.abi == "fifo" else self.max_channels
        # The ports that the kernel does not close in Xen: is_static in Linux's irq_info.
        self._static: set[int] = set()
        # The ports whose interrupt came in a storm; and those of them that were written since.
        self._deferred: set[int] = set()
        self._late: dict[int, None] = {}
        self._delivery = self._new_delivery()
        domain.upcall = self._delivery.upcall()
        for port in bind_kernel_ports(domain, self._configuration):
            self.hold_own(port, "kernel")

    def hold_own(self, port: int, holder: str) -> None:
        """Hold a port for the kernel or a daemon, which takes the events at once."""
        self.own_ports[port] = holder
        self._map_port(port)
        self.domain.unmask(port)

    def _new_delivery(self) -> Delivery:
        fifo = self._configuration.abi == "fifo"
        queue = FifoQueue(self.domain.free_ports) if fifo else TwoLevelQueue()
        match self._configuration.delivery:
            case "immediate":
                return Immediate(self._interrupt, queue)
            case "manual":
                return Delivery(self._interrupt, queue)
            case "shuffled":
                return Shuffled(self._interrupt, queue, self._holder, self._random)

    @property
    def alive(self) -> bool:
        """Whether the domain has not ended; it may be paused or saved."""
        return self.gone is None

    def port_table(self) -> tuple[Port, ...]:
        """List the domain's ports by number, the kernel's own ports included."""
        return tuple(
            Port(
                port=port,
                state=evtchn.state,
                remote_domid=evtchn.remote_domid,
                remote_port=evtchn.peer.port if evtchn.peer else None,
                virq=evtchn.virq,
                pending=evtchn.pending,
                masked=evtchn.masked,
                kernel=(holder := self.own_ports.get(port)) == "kernel",
                daemon=None if holder == "kernel" else holder,
                static=port in self.domain.static,
            )
            for port, evtchn in sorted(self.domain.ports.items())
        )

    def fail_next(self, operation: str, number: int) -> None:
        """Make the next call of an operation fail with an errno."""
        self.failures.setdefault(operation, deque()).append(number)
        self.must_prepare = True

    def prepare(self, file: File, operation: str) -> None:
        """Check that a call of a file can be made, and decide which events it finds.

        Raises:
            OSError: ENODEV, the domain has ended; or the next errno of ``failures``.
            ValueError: the domain is saved.
        """
        self.check(operation)
        self._delivery.settle(file)

    def check(self, operation: str) -> None:
        """Check that a call can be made.

        Raises:
            OSError: ENODEV, the domain has ended; or the next errno of ``failures``.
            ValueError: the domain is saved.
        """
        if self.gone is not None:
            error = Refusal(errno.ENODEV, os.strerror(errno.ENODEV))
            error.add_note(f"domain {self.domain.domid} was {self.gone}")
            raise error
        if self.saved:
            raise ValueError(f"domain {self.domain.domid} is saved: its processes do not run")
        numbers = self.failures.get(operation)
        if numbers:
            number = numbers.popleft()
            if not numbers:
                del self.failures[operation]
                self.must_prepare = self._always_prepare or bool(self.failures)
            fail(number)

    def end(self, why: str) -> None:
        """Stop: the domain has ended, and its files have no ports and no events any more."""
        self.pause()
        self.gone = why
        self.must_prepare = True
        self.holders.clear()
        for file in self.files:
            file.abandon()

    def suspend(self) -> None:
        """Stop: the domain is saved, with the ports and events of its files."""
        self.pause()
        self.saved = True
        self.must_prepare = True

    def resume(self, domain: XenDomain) -> None:
        """Continue in the domain that this one was restored into (xen_irq_resume).

        The kernel binds its own ports again. The files' ports are neither in Xen's table nor in the
        kernel's any more, but the files still have them.
        """
        self.saved = False
        self.must_prepare = self._always_prepare or bool(self.failures)
        for file in self.files:
            file.stale = file.stale or bool(file.ports)
        self._run_in(domain)

    def pause(self) -> None:
        """Hold events back."""
        self._delivery.pause()
        self.domain.upcall = self._delivery.upcall()

    def unpause(self) -> None:
        """Take events again, the waiting ones first."""
        self._delivery.resume()
        self.domain.upcall = self._delivery.upcall()

    def deliver(self, most: int | None = None, *, storm: bool = False) -> int:
        """Run the waiting interrupts, in the ABI's order; return how many were for files.

        Args:
            most: the most that may be for files; None for all.
            storm: the kernel stays in this loop over its events, longer than two jiffies, until the
                next delivery. Ports that are unmasked meanwhile stay masked until then
                (handle_irq_for_port, xen_irq_lateeoi_locked).
        """
        late, self._late = self._late, {}
        self._deferred.clear()
        for port in late:
            self.end_of_interrupt(port)
        awaited = self._awaiting_end() if storm else set()
        count = self._delivery.deliver(most)
        if storm:
            self._deferred = self._awaiting_end() - awaited
        return count

    def show_waiting(self, file: File) -> None:
        """Make a file with an empty ring readable if an event waits for it."""
        self._delivery.show_waiting(file)

    def forget(self, file: File) -> None:
        """Remove a closed file."""
        self.files.discard(file)
        self._delivery.forget(file)

    def bind(self, port: int, file: File, *, static: bool) -> None:
        """Bind a port's interrupt to a file (bind_evtchn_to_irqhandler_lateeoi).

        Args:
            port: the port.
            file: the file, which has the port among its ports already.
            static: whether the port stays in Xen when it is unbound.

        Raises:
            OSError: ENOMEM, higher than the ABI's limit; EBUSY, another file holds it (up to Linux
                6.6).
            KernelBug: the kernel itself holds it, or a daemon of dom0.
        """
        if port >= self.max_channels:
            fail(errno.ENOMEM)
        if port in self.own_ports:
            raise KernelBug(
                f"bind_evtchn_to_irqhandler_chip: port {port} is held by the {self._owner(port)},"
                " whose interrupt is torn down"
            )
        holder = self.holders.get(port)
        if holder is not None and self.linux < _SHARED_IRQS:
            # request_irq fails, and unbind_from_irq unbinds the port of the other file.
            self._tear_down(port)
            fail(errno.EBUSY)
        self._static.discard(port)
        if static:
            self._static.add(port)
        if holder is None:
            self.holders[port] = file
            self._map_port(port)
        else:
            self.holders[port] = SharedIrq(holder, file)
            if port in self._awaiting_end():
                return
        self.end_of_interrupt(port)

    def unbind(self, port: int) -> None:
        """Unbind a port of a file (evtchn_unbind_from_user).

        The interrupt that the port has now is torn down, even if other files share it or, after
        the domain was restored, it is a new owner's.

        Raises:
            KernelBug: the port has no interrupt, or the kernel's own.
        """
        if port in self.own_ports:
            raise KernelBug(
                f"evtchn_unbind_from_user: port {port} is held by the {self._owner(port)} since the"
                " domain was restored, and its interrupt is torn down"
            )
        if port not in self.holders:
            raise KernelBug(
                f"BUG_ON(irq < 0) in evtchn_unbind_from_user: port {port} has no interrupt any"
                " more: the domain was restored, or another handle unbound the same port"
            )
        self._tear_down(port)

    def orphan(self, file: File) -> set[int]:
        """Leave a file the interrupts of the ports that it forgets; return those ports."""
        ports = {port for port in file.ports if self.holders.get(port) is file}
        for port in ports:
            self.holders[port] = OrphanIrq(file)
        return ports

    def end_of_interrupt(self, port: int) -> None:
        """Unmask a port, for its next event (xen_irq_lateeoi)."""
        if port in self._deferred:
            self._late[port] = None
        # The number of a static port may be free in Xen.
        elif port in self.holders and port in self.domain.ports:
            self.domain.unmask(port)

    def _owner(self, port: int) -> str:
        holder = self.own_ports[port]
        return "kernel itself" if holder == "kernel" else f"daemon {holder}"

    def _tear_down(self, port: int) -> None:
        """Remove a port's interrupt (__unbind_from_irq)."""
        self.holders.pop(port, None)
        self._deferred.discard(port)
        self._late.pop(port, None)
        if port not in self._static:
            # Last: once it is closed, Xen may give the number to another port.
            if port in self.domain.ports:
                self.domain.close(port)
            return
        self._static.remove(port)
        if port in self.domain.ports:
            self.domain.ports[port].masked = True

    def _map_port(self, port: int) -> None:
        """Make the kernel ready for a port."""
        if port >= self.nr_channels:
            self.nr_channels = (port // _FIFO_PAGE + 1) * _FIFO_PAGE

    def _interrupt(self, evtchn: Evtchn) -> bool:
        evtchn.pending = False
        file = self.holders.get(evtchn.port)
        if file is None:
            return False
        # A "late EOI": masked until the file's write (driver).
        evtchn.masked = True
        evtchn.interrupts += 1
        file.interrupt(evtchn.port)
        return True

    def _holder(self, evtchn: Evtchn) -> File | None:
        holder = self.holders.get(evtchn.port)
        return holder if holder in self.files else None

    def _awaiting_end(self) -> set[int]:
        return {port for file in self.files for port, enabled in file.ports.items() if not enabled}

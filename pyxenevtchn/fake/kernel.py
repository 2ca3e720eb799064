"""A domain's Linux, below the driver: who holds which port, and the interrupts.

Pure: no descriptor, no thread, no I/O. The rules are the kernel's (drivers/xen/events).
"""

import errno
import os
from collections import deque
from typing import TYPE_CHECKING, NoReturn

from ..abi import Virq
from .hypervisor import Evtchn, XenDomain

if TYPE_CHECKING:
    from .driver import OpenFile

_FIFO_PAGE = 1024

# What a Linux kernel has bound before the first process runs: dom0's with two vCPUs has about 20
# ports, a domU's less than 10.
_DOM0_VIRQS = (Virq.TIMER, Virq.CONSOLE, Virq.PCPU_STATE, Virq.ARCH_0)
_DOM0_IPIS = 15
_DOMU_IPIS = 5


class Kernel:
    """A domain's Linux: who holds which port, and the interrupts.

    Args:
        domain: its port table.
        abi: "fifo" or "2l".
        max_channels: the ABI's limit.
        immediate: run interrupts as events come; else at ``deliver``.

    Attributes:
        holders: the open file of each port that one holds.
        files: the open files.
        nr_channels: one more than the highest port that the kernel is ready for: with the FIFO
            ABI it grows by pages of 1024.
        alive: whether the domain exists still.
        failures: the errnos that the next calls fail with, by operation.
    """

    def __init__(self, domain: XenDomain, abi: str, max_channels: int, *, immediate: bool) -> None:
        self.domain = domain
        self.max_channels = max_channels
        self.holders: dict[int, OpenFile] = {}
        self.files: set[OpenFile] = set()
        self.alive: bool = True
        self.failures: dict[str, deque[int]] = {}
        self._fifo = abi == "fifo"
        self.nr_channels: int = 0 if self._fifo else max_channels
        self._queue: deque[Evtchn] = deque()
        domain.upcall = self._interrupt if immediate else self._queue.append
        self.own_ports: frozenset[int] = frozenset(self._boot())

    def _boot(self) -> list[int]:
        domain = self.domain
        if domain.domid == 0:
            ports = [domain.bind_virq(virq) for virq in _DOM0_VIRQS]
            ports += [domain.bind_ipi() for _ in range(_DOM0_IPIS)]
            ports += [domain.alloc_unbound(0)]  # xenstored connects to it
        else:
            # The toolstack allocates xenstore's and the console's, for the daemons in dom0.
            ports = [domain.alloc_unbound(0), domain.alloc_unbound(0)]
            ports += [domain.bind_virq(Virq.TIMER)]
            ports += [domain.bind_ipi() for _ in range(_DOMU_IPIS)]
        for port in ports:
            self.map_port(port)
            domain.unmask(port)
        return ports

    def map_port(self, port: int) -> None:
        """Make the kernel ready for a port."""
        if port >= self.nr_channels:
            self.nr_channels = (port // _FIFO_PAGE + 1) * _FIFO_PAGE

    def deliver(self) -> int:
        """Run the interrupts that wait; return how many were for open files.

        The FIFO ABI takes them in the order of their events, the 2-level one in that of the ports.
        """
        count = 0
        waiting = [self._queue.popleft() for _ in range(len(self._queue))]
        if not self._fifo:
            waiting.sort(key=lambda evtchn: evtchn.port)
        for evtchn in waiting:
            # Those closed or let go since are masked.
            if not evtchn.masked:
                count += evtchn.port in self.holders
                self._interrupt(evtchn)
        return count

    def check(self, operation: str) -> None:
        """Let a call through to a file, or fail it.

        Raises:
            OSError: ENODEV, the domain was destroyed; or what ``failures`` says is next.
        """
        if not self.alive:
            raise self._destroyed()
        if self.failures:
            numbers = self.failures.get(operation)
            if numbers:
                fail(numbers.popleft())

    def _destroyed(self) -> OSError:
        error = OSError(errno.ENODEV, os.strerror(errno.ENODEV))
        error.add_note(f"domain {self.domain.domid} was destroyed")
        return error

    def shut_down(self) -> None:
        """Stop, for the domain is destroyed: its files have no port and no event any more."""
        self.alive = False
        self.holders.clear()
        for file in self.files:
            file.abandon()

    def _interrupt(self, evtchn: Evtchn) -> None:
        evtchn.pending = False
        file = self.holders.get(evtchn.port)
        if file is not None:
            # A "late EOI": masked until the file's write (driver).
            evtchn.masked = True
            evtchn.interrupts += 1
            file.interrupt(evtchn.port)


def fail(number: int) -> NoReturn:
    """Fail with an errno, as a system call does."""
    raise OSError(number, os.strerror(number))

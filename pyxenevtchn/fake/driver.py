"""The event-channel driver: its open files.

Pure: no descriptor, no thread, no I/O. The rules, the order of the checks and the errnos are the
Linux driver's (drivers/xen/evtchn.c).
"""

import errno
import os
import select
from array import array
from collections import deque
from collections.abc import Callable

from ..abi import DOMID_FIRST_RESERVED, DOMID_MAX, PORT_BYTES, Packed, Request, unpack_ports
from .kernel import Kernel, fail

PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")
"""The driver reads and writes this much at most."""

_FIRST_RING = 64


class OpenFile:
    """One open file of the driver.

    Args:
        kernel: whose driver.
        on_poll: called with what poll says now (see ``poll``) when that changes: POLLIN as the
            ring gets its first event, 0 as it becomes empty, POLLERR as it overflows.
    """

    def __init__(self, kernel: Kernel, on_poll: Callable[[int], None]) -> None:
        self.ring_size: int = 0
        self.ports: dict[int, bool] = {}
        """This file's ports, and whether each is enabled."""
        self._kernel = kernel
        self.on_poll: Callable[[int], None] = on_poll
        self._ring: deque[int] = deque()
        self._overflow = False
        self._restrict_domid: int | None = None
        self._static: set[int] = set()
        kernel.files.add(self)

    def poll(self) -> int:
        """Tell what poll says besides POLLOUT: POLLERR after an overflow, POLLIN, or 0."""
        if self._overflow or not self._kernel.alive:
            return select.POLLERR
        return select.POLLIN if self._ring else 0

    def read(self, size: int) -> bytes:
        """Take events off the ring: whole ports, a page at most, oldest first.

        Raises:
            OSError: EFBIG after an overflow, EAGAIN where the ring is empty; in this order, and
                neither where less than a port is asked for.
        """
        self._kernel.check("read")
        size &= -PORT_BYTES
        if size == 0:
            return b""
        if self._overflow:
            fail(errno.EFBIG)
        ring = self._ring
        if not ring:
            # Said again, in case a signal handler's exception once kept it from being heard.
            self.on_poll(0)
            fail(errno.EAGAIN)
        count = min(size, PAGE_BYTES) // PORT_BYTES
        ports = array("I", [ring.popleft() for _ in range(min(count, len(ring)))])
        if not ring:
            self.on_poll(0)
        return ports.tobytes()

    def unread(self, data: bytes) -> None:
        """Put back, in front, what ``read`` gave: it never came to whoever read it."""
        was_empty = not self._ring
        self._ring.extendleft(reversed(unpack_ports(data)))
        if was_empty and self.poll() == select.POLLIN:
            self.on_poll(select.POLLIN)

    def write(self, data: Packed) -> int:
        """Enable ports again: whole ports, a page at most.

        Those that are enabled, or not of this file, are skipped.

        Returns:
            The bytes taken, those of skipped ports too.
        """
        self._kernel.check("write")
        size = min(len(data) & -PORT_BYTES, PAGE_BYTES)
        ports = self.ports
        for port in unpack_ports(data[:size]):
            if ports.get(port) is False:
                ports[port] = True
                self._unmask(port)
        return size

    def ioctl(self, request: Request, *arguments: int) -> int:
        """Make a request; the arguments are its struct's fields.

        Returns:
            The port, for one that binds to a new port; else 0.

        Raises:
            OSError: with the driver's errno.
        """
        self._kernel.check(request)
        return _REQUESTS[request](self, *arguments)

    def notify_many(self, ports: Packed) -> tuple[int, int]:
        """Make NOTIFY of each port, of 32-bit words, until one fails (see device.Device)."""
        sent = 0
        for port in unpack_ports(ports):
            try:
                self.ioctl(Request.NOTIFY, port)
            except OSError as error:
                return sent, error.errno or 0
            sent += 1
        return sent, 0

    def interrupt(self, port: int) -> None:
        """Take an event of one of the ports: disable it, and put it into the ring if it fits."""
        self.ports[port] = False
        was_empty = not self._ring
        if len(self._ring) < self.ring_size:
            self._ring.append(port)
            if was_empty:
                self.on_poll(select.POLLIN)
        elif not self._overflow:
            self._overflow = True
            self.on_poll(select.POLLERR)

    def interrupts(self) -> dict[int, int]:
        """Tell how many events each port has had since it was bound, as /proc/interrupts does."""
        bound = self._kernel.domain.ports
        return {port: bound[port].interrupts if port in bound else 0 for port in self.ports}

    def release(self) -> None:
        """Close: unbind every port."""
        for port in list(self.ports):
            self._unbind(port)
        self._kernel.files.remove(self)

    def disown(self) -> None:
        """Show nothing any more: in a child process, for what polls is the parent's."""
        self.on_poll = lambda _mask: None

    def abandon(self) -> None:
        """Forget every port and event: the domain is gone."""
        self.ports.clear()
        self._ring.clear()
        self.on_poll(select.POLLERR)

    def _bind_virq(self, virq: int) -> int:
        self._refuse_if_restricted()
        return self._bind(self._kernel.domain.bind_virq(virq))

    def _bind_interdomain(self, remote_domain: int, remote_port: int) -> int:
        # Compared as 32 bits, before the hypercall cuts it to 16 (driver).
        if self._restrict_domid not in {None, remote_domain}:
            fail(errno.EACCES)
        domain = self._kernel.domain
        return self._bind(domain.bind_interdomain(remote_domain & DOMID_MAX, remote_port))

    def _bind_unbound_port(self, remote_domain: int) -> int:
        self._refuse_if_restricted()
        return self._bind(self._kernel.domain.alloc_unbound(remote_domain & DOMID_MAX))

    def _bind_static(self, port: int) -> int:
        """Take over a port that exists already, or a free number: the driver does not check.

        The one deliberate difference: for a port that the kernel or another open file holds this
        is EBUSY and nothing else. The real driver answers EBUSY or 0, and then the kernel hangs,
        or oopses when the files are closed.

        Raises:
            OSError: EISCONN, a port of this file; ENOMEM, higher than the ABI's limit; EBUSY.
        """
        if port in self.ports:
            fail(errno.EISCONN)
        # The driver makes room first, and keeps it when the rest fails.
        self._grow_ring(len(self.ports) + 1)
        if port >= self._kernel.max_channels:
            fail(errno.ENOMEM)
        if port in self._kernel.own_ports or port in self._kernel.holders:
            fail(errno.EBUSY)
        self._static.add(port)
        self._hold(port)
        return 0

    def _unbind_request(self, port: int) -> int:
        if port >= self._kernel.nr_channels:
            fail(errno.EINVAL)
        if port not in self.ports:
            fail(errno.ENOTCONN)
        self._unbind(port)
        return 0

    def _notify(self, port: int) -> int:
        if port not in self.ports:
            fail(errno.ENOTCONN)
        try:
            self._kernel.domain.send(port)
        except OSError:
            return 0  # the hypercall's result is thrown away (driver)
        return 0

    def _reset(self) -> int:
        self._ring.clear()
        self._overflow = False
        self.on_poll(0)
        return 0

    def _restrict(self, domid: int) -> int:
        self._refuse_if_restricted()
        if not 0 < domid < DOMID_FIRST_RESERVED:
            fail(errno.EINVAL)
        self._restrict_domid = domid
        return 0

    def _refuse_if_restricted(self) -> None:
        if self._restrict_domid is not None:
            fail(errno.EACCES)

    def _bind(self, port: int) -> int:
        holder = self._kernel.holders.get(port)
        if holder is not None:
            # Xen gave out a free number that BIND_STATIC had taken.
            self._kernel.domain.close(port)
            fail(errno.EEXIST if holder is self else errno.EBUSY)
        self._grow_ring(len(self.ports) + 1)
        self._hold(port)
        return port

    def _hold(self, port: int) -> None:
        self.ports[port] = True
        self._kernel.holders[port] = self
        self._kernel.map_port(port)
        self._unmask(port)

    def _grow_ring(self, nr_ports: int) -> None:
        if nr_ports > self.ring_size:
            self.ring_size = 2 * self.ring_size or _FIRST_RING

    def _unmask(self, port: int) -> None:
        domain = self._kernel.domain
        # A static port's number may be free in Xen.
        if port in domain.ports:
            domain.unmask(port)

    def _unbind(self, port: int) -> None:
        domain = self._kernel.domain
        # Closed last: from then on the number may be somebody else's.
        del self.ports[port]
        del self._kernel.holders[port]
        if port not in self._static:
            domain.close(port)
            return
        # It is not this file's to close (driver); the kernel masks it.
        self._static.remove(port)
        if port in domain.ports:
            domain.ports[port].masked = True


_REQUESTS: dict[Request, Callable[..., int]] = {
    Request.BIND_VIRQ: OpenFile._bind_virq,  # noqa: SLF001 - the class's own table
    Request.BIND_INTERDOMAIN: OpenFile._bind_interdomain,  # noqa: SLF001
    Request.BIND_UNBOUND_PORT: OpenFile._bind_unbound_port,  # noqa: SLF001
    Request.UNBIND: OpenFile._unbind_request,  # noqa: SLF001
    Request.NOTIFY: OpenFile._notify,  # noqa: SLF001
    Request.RESET: OpenFile._reset,  # noqa: SLF001
    Request.RESTRICT_DOMID: OpenFile._restrict,  # noqa: SLF001
    Request.BIND_STATIC: OpenFile._bind_static,  # noqa: SLF001
}

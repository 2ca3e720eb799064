"""The event-channel driver: its open files.

Pure: no descriptor, no thread, no I/O. The rules, the order of the checks and the errnos are the
Linux driver's (drivers/xen/evtchn.c).
"""

import errno
import os
import select
from collections import deque
from collections.abc import Callable, Iterable

from ...abi import (
    DOMID_FIRST_RESERVED,
    DOMID_MAX,
    PORT_BYTES,
    Packed,
    Request,
    pack_ports,
    unpack_ports,
)
from ...ports import Port
from .failure import KernelBug, fail
from .linux import Kernel

PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")
"""The most bytes that one read or write of the driver takes."""

_FIRST_RING = 64

# The first Linux that has BIND_STATIC.
_STATIC = (6, 6)


class OpenFile:
    """One open file of the driver.

    Args:
        kernel: the kernel that the driver is in.
        on_poll: called with the new result of ``poll`` when it changes: POLLIN when the ring gets
            its first event, 0 when it becomes empty, POLLERR when it overflows and at each read
            that fails with EFBIG.

    Attributes:
        ring_size: how many events the ring can hold.
        ports: this file's ports, and whether each is enabled.
        readable: whether the last call of ``on_poll`` had POLLIN, those with POLLERR left aside.
        stale: whether it had ports when the domain was restored: it must not be closed any more.
    """

    def __init__(self, kernel: Kernel, on_poll: Callable[[int], None]) -> None:
        self.ring_size: int = 0
        self.ports: dict[int, bool] = {}
        self.on_poll: Callable[[int], None] = on_poll
        self.readable: bool = False
        self.stale: bool = False
        self._kernel = kernel
        self._ring: deque[int] = deque()
        self._overflow = False
        self._restrict_domid: int | None = None
        # The driver's own count: not lowered for the ports that it forgets (see _forget_ports).
        self._nr_ports = 0
        self._forgotten: set[int] = set()
        kernel.files.add(self)

    @property
    def holds_events(self) -> bool:
        """Whether the ring has events."""
        return bool(self._ring)

    def poll(self) -> int:
        """Return the result of poll without POLLOUT: POLLERR after an overflow, POLLIN, or 0."""
        if self._overflow or not self._kernel.alive:
            return select.POLLERR
        return select.POLLIN if self.readable else 0

    def read(self, size: int) -> bytes:
        """Take events off the ring as ``take`` does, by bytes: whole ports; none if it is less."""
        if size < PORT_BYTES:
            if self._kernel.must_prepare:
                self._kernel.prepare(self, "read")
            return b""
        return bytes(pack_ports(self.take(size // PORT_BYTES)))

    def take(self, room: int) -> list[int]:
        """Take events off the ring, oldest first: as many as there is room for, at most a page.

        Raises:
            OSError: EFBIG after an overflow, EAGAIN if the ring is empty; in this order.
        """
        if self._kernel.must_prepare:
            self._kernel.prepare(self, "read")
        if self._overflow:
            self.on_poll(select.POLLERR)
            fail(errno.EFBIG)
        ring = self._ring
        if not ring:
            # Once more, in case a signal handler's exception interrupted the last time.
            self._show_empty()
            fail(errno.EAGAIN)
        count = min(len(ring), room, PAGE_BYTES // PORT_BYTES)
        # Usually one event is there.
        ports = [ring.popleft()] if count == 1 else [ring.popleft() for _ in range(count)]
        if not ring:
            self._show_empty()
        return ports

    def unread(self, data: bytes) -> None:
        """Put the result of a ``read`` back at the front of the ring: the reader did not get it."""
        self._ring.extendleft(reversed(unpack_ports(data)))
        if self._ring and self.poll() == 0:
            self.show_readable()

    def write(self, data: Packed) -> int:
        """Enable ports as ``enable`` does, by bytes: whole ports, at most a page.

        Returns:
            The number of bytes taken.
        """
        size = min(len(data) & -PORT_BYTES, PAGE_BYTES)
        self.enable(unpack_ports(data[:size]))
        return size

    def enable(self, ports: Iterable[int]) -> None:
        """Enable ports again; those that are enabled already, or not of this file, are skipped."""
        if self._kernel.must_prepare:
            self._kernel.prepare(self, "write")
        own = self.ports
        for port in ports:
            if own.get(port) is False:
                own[port] = True
                self._kernel.end_of_interrupt(port)

    def ioctl(self, request: Request, *arguments: int) -> int:
        """Make a request; the arguments are its struct's fields.

        Returns:
            The port, for a request that binds a new port; else 0.

        Raises:
            OSError: with the driver's errno.
            KernelBug: the kernel would have crashed.
        """
        if self._kernel.must_prepare:
            self._kernel.prepare(self, request)
        return _REQUESTS[request](self, *arguments)

    def interrupt(self, port: int) -> None:
        """Take an event of a port: disable the port, and put the event in the ring if it fits."""
        self.ports[port] = False
        if len(self._ring) < self.ring_size:
            self._ring.append(port)
            if not self.readable:
                self.show_readable()
        elif not self._overflow:
            self._overflow = True
            self.on_poll(select.POLLERR)

    def show_readable(self) -> None:
        """Make poll report POLLIN."""
        if not self.readable:
            self.on_poll(select.POLLIN)
            self.readable = True

    def interrupts(self) -> dict[int, int]:
        """Count the events of each port since it was bound, as /proc/interrupts does."""
        bound, holders = self._kernel.domain.ports, self._kernel.holders
        return {
            port: bound[port].interrupts if port in bound and port in holders else 0
            for port in self.ports
        }

    def port_table(self) -> tuple[Port, ...]:
        """List the ports of the domain (see device.Device)."""
        self._kernel.check("port_table")
        return self._kernel.port_table()

    def domid(self) -> int:
        """Return the domain's domid, which changes when the domain is restored."""
        self._kernel.check("domid")
        return self._kernel.domain.domid

    def release(self) -> None:
        """Close: unbind every port.

        Raises:
            KernelBug: the kernel no longer has one of them. The ports after it stay bound.
        """
        self._kernel.forget(self)
        for port in list(self.ports):
            self._unbind(port)
        if self._forgotten:
            raise KernelBug(
                "evtchn_release: interrupts still go to freed memory, those of the ports"
                f" {sorted(self._forgotten)}, which the driver forgot at an EEXIST"
            )

    def disown(self) -> None:
        """After a fork: do not call ``on_poll`` any more, as the descriptor is the parent's."""
        self.on_poll = lambda _mask: None

    def abandon(self) -> None:
        """Drop every port and event: the domain has ended."""
        self.ports.clear()
        self._forgotten.clear()
        self._ring.clear()
        self.on_poll(select.POLLERR)

    def _bind_virq(self, virq: int) -> int:
        self._refuse_if_restricted()
        return self._bind(self._kernel.domain.bind_virq(virq))

    def _bind_interdomain(self, remote_domain: int, remote_port: int) -> int:
        # The driver compares 32 bits; the hypercall takes 16 of them.
        if self._restrict_domid not in {None, remote_domain}:
            fail(errno.EACCES)
        domain = self._kernel.domain
        return self._bind(domain.bind_interdomain(remote_domain & DOMID_MAX, remote_port))

    def _bind_unbound_port(self, remote_domain: int) -> int:
        self._refuse_if_restricted()
        return self._bind(self._kernel.domain.alloc_unbound(remote_domain & DOMID_MAX))

    def _bind_static(self, port: int) -> int:
        """Take over a port that exists already, or a free number: the driver does not check.

        Raises:
            OSError: ENOSYS, before Linux 6.6; EISCONN, a port of this file; or see Kernel.bind.
        """
        if self._kernel.linux < _STATIC:
            fail(errno.ENOSYS)
        if port in self.ports:
            fail(errno.EISCONN)
        self._bind(port, static=True)
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
            return 0  # the driver ignores the hypercall's result
        return 0

    def _reset(self) -> int:
        self._ring.clear()
        self._overflow = False
        self._show_empty()
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

    def _bind(self, port: int, *, static: bool = False) -> int:
        """Take a port that the hypervisor has allocated (evtchn_bind_to_user)."""
        self._nr_ports += 1
        known = port in self.ports
        try:
            if known:
                # Xen allocated a number that the driver still has: that of a static port, or of
                # one from before the domain was restored.
                self._forget_ports()
                fail(errno.EEXIST)
            self.ports[port] = True
            self._grow_ring()
            self._kernel.bind(port, self, static=static)
        except (OSError, KernelBug):
            if not static:
                self._kernel.domain.close(port)
            self._nr_ports -= 1
            self.ports.pop(port, None)
            raise
        return port

    def _grow_ring(self) -> None:
        if self._nr_ports > self.ring_size:
            self.ring_size = 2 * self.ring_size or _FIRST_RING

    def _forget_ports(self) -> None:
        """Forget every port: the driver removes a node from its tree that is not in it."""
        self._forgotten |= self._kernel.orphan(self)
        self.ports.clear()

    def _unbind(self, port: int) -> None:
        self._kernel.unbind(port)
        del self.ports[port]
        self._nr_ports -= 1

    def _show_empty(self) -> None:
        self.on_poll(0)
        self.readable = False
        if self._kernel.must_prepare:
            self._kernel.show_waiting(self)


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

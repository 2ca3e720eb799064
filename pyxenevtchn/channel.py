"""EventChannel: a handle of the event-channel driver, the class that people use."""

import errno
import os
from collections.abc import Iterable, Mapping
from typing import NoReturn, Self, SupportsIndex

from .abi import PORT_BYTES, Request, check_domid, check_uint32, pack_ports, virq_name
from .bindings import Binding, tell
from .compiled import ffi, lib
from .device import NUMBERS, Device
from .errors import partial_notify, stale_bind
from .handle import BOUND, Batch
from .opening import adopt_device, open_device
from .receiver import Receiver

_bind, _notify = lib.handle_bind, lib.handle_notify


class EventChannel(Receiver):
    """An open handle of Xen's event-channel driver: its ports and their events.

    Open one with ``EventChannel.open()`` and use it as a context manager. Closing it unbinds every
    port that it holds.

    A port that delivers an event is masked until ``unmask``. Events that arrive meanwhile become
    one, which is delivered after the unmask. So the order is: read, do the work, unmask.

    Threads: every method may be called from several threads at once. ``close`` wakes those that
    wait, with ChannelClosed. The descriptor is closed, and the ports are unbound, when the last
    running call returns, so no call ever reaches another file. If several threads read, each event
    goes to one of them.

    Fork: a handle belongs to the process that opened it. A child may only close it or call
    ``fileno()``; any other call raises RuntimeError.

    Errors: requests, reads and waits raise ChannelClosed after ``close``, and StaleHandle once the
    handle is known to be stale. A port, domid or VIRQ that is not an integer is a TypeError; one
    that does not fit its field (32 bits, a domid 16) is a ValueError. Then the driver gets no
    request.
    """

    @classmethod
    def open(
        cls,
        device: str | os.PathLike[str] | Device | None = None,
        *,
        nonblocking: bool = True,
        cloexec: bool = True,
    ) -> Self:
        """Open a handle.

        Args:
            device: a path; ``fake:`` or ``fake:unix:PATH``, each with an optional ``?domid=N``; a
                Device; or None: the value of the environment variable XENEVTCHN_DEVICE, or
                /dev/xen/evtchn if it is not set.
            nonblocking: open with O_NONBLOCK: ``read`` then raises BlockingIOError instead of
                waiting. ``poll`` and ``wait`` do not depend on it.
            cloexec: close the descriptor when the process executes another program.

        Raises:
            OSError: the device cannot be opened (FileNotFoundError, PermissionError, ...); a note
                says what to do.
            ValueError: the name starts with ``fake:`` and is not valid.
            TypeError: ``device`` is neither a name nor a Device.
        """
        if not isinstance(device, Device):
            device = open_device(device, nonblocking=nonblocking, cloexec=cloexec)
        device.is_new = True
        channel = cls(device)
        # Stores, no calls: nothing can come between the first and the return (see receiver.py).
        device.is_new = False
        return channel

    @classmethod
    def from_fd(
        cls, fd: int, *, closefd: bool = True, bindings: Mapping[int, Binding] | None = None
    ) -> Self:
        """Adopt a descriptor of the driver: inherited, received, or duplicated.

        It shares its ports and pending events with all its duplicates (driver). The driver does not
        tell which ports it holds. They all work, but the handle knows only those in ``bindings``;
        ``recover`` in particular depends on that. The descriptor, and with it every duplicate,
        becomes nonblocking; ``read`` waits if it was not.

        Args:
            fd: the descriptor.
            closefd: whether closing the handle closes the descriptor.
            bindings: the ``bindings`` of the handle that the descriptor comes from, if known.

        Raises:
            OSError: EBADF: it is not open. ENOTTY: it is not an event-channel device. The
                descriptor still belongs to the caller then.
        """
        device = adopt_device(fd)
        device.is_new = True
        channel = cls(device)
        handle = channel._handle
        handle.complete, handle.shared = bindings is not None, True
        for port, binding in (bindings or {}).items():
            tell(handle, port, binding)
        # Stores, no calls. Only now does the descriptor belong to the handle, if it shall.
        handle.device.owned = closefd
        device.is_new = False
        return channel

    def bind_virq(self, virq: int) -> int:
        """Bind a VIRQ to a new port and return the port; it is unmasked.

        A VIRQ with the scope VirqScope.VCPU is bound on vCPU 0 (driver).

        Args:
            virq: a Virq, or its number.

        Raises:
            FileExistsError: the VIRQ is already bound in this domain (hypervisor).
            StaleHandle: this domain was restored, and the handle's ports are gone, as
                ``check_stale`` finds, which is called first.
            PermissionError: the handle is restricted (driver).
            OSError: EINVAL: Xen does not have the VIRQ. EBUSY: this domain does not handle it (Xen
                4.21 and newer; older ones bind it, but it never fires). ENOSPC: the domain does not
                have a free port.
        """
        return self._bind(Request.BIND_VIRQ, check_uint32("virq", virq))

    def bind_interdomain(self, remote_domain: SupportsIndex, remote_port: SupportsIndex) -> int:
        """Connect a new port to another domain's unbound port and return it; it is unmasked.

        The new port starts with one event pending, which nobody sent (hypervisor): check once the
        memory that you share with the other end, which may have written before you connected.

        Args:
            remote_domain: the other end's domid, or DOMID_SELF.
            remote_port: the port that it allocated for this domain.

        Raises:
            ProcessLookupError: no domain has that domid (hypervisor).
            PermissionError: the handle is restricted to another domain (driver), or Xen's policy
                forbids the connection (hypervisor).
            StaleHandle: this domain was restored, and the handle's ports are gone (driver).
            OSError: EINVAL: the remote port is not unbound, or is reserved for another domain.
                ENOSPC: this domain does not have a free port (hypervisor).
        """
        domid = check_domid("remote_domain", remote_domain)
        port = check_uint32("remote_port", remote_port)
        return self._bind(Request.BIND_INTERDOMAIN, domid, port)

    def bind_unbound_port(self, remote_domain: SupportsIndex) -> int:
        """Allocate a port that ``remote_domain`` may connect to, and return it; it is unmasked.

        When the other end goes away, the port is unbound again, without an event (hypervisor).

        Args:
            remote_domain: the domid, or DOMID_SELF. Xen does not check that the domain exists,
                unless its policy (XSM) does.

        Raises:
            PermissionError: the handle is restricted (driver), or Xen's policy forbids it
                (hypervisor).
            ProcessLookupError: no domain has that domid, and Xen's policy requires one (XSM SILO).
            StaleHandle: this domain was restored, and the handle's ports are gone (driver).
            OSError: ENOSPC: this domain does not have a free port (hypervisor).
        """
        domid = check_domid("remote_domain", remote_domain)
        return self._bind(Request.BIND_UNBOUND_PORT, domid)

    def bind_static(self, port: SupportsIndex) -> None:
        """Bind a port that already exists: one that Xen set up at boot for this domain.

        Danger: the kernel does not check who owns the port. A port that another handle holds, in
        any process, makes the kernel oops when the handles close; one that the kernel itself uses
        (it returns EBUSY) hangs the machine. This method refuses the ports of other handles of this
        process; it does not know others. Unbinding does not close the port in Xen (driver).

        Raises:
            OSError: ENOSYS: Linux is older than 6.6. EISCONN: this handle has the port. EBUSY:
                another handle of this process has it (refused here). ENOMEM: it is higher than the
                kernel can have.
        """
        self._bind(Request.BIND_STATIC, check_uint32("port", port))

    def domain_exists(self, domid: SupportsIndex) -> bool:
        """Return whether Xen has a domain with this domid, by a connection that Xen refuses.

        False proves that the domain is gone. True does not prove that it runs: it may be dying, may
        have crashed and be preserved, or may be dead while its memory is still mapped somewhere
        (hypervisor).

        Args:
            domid: the domid, or DOMID_SELF.

        Raises:
            PermissionError: the handle is restricted to another domain (driver); or Xen's policy
                hides the domain.
        """
        # Port 0 is never allocated. Xen checks the domid before the port (hypervisor).
        arguments = (check_domid("domid", domid), 0)
        number = NUMBERS[Request.BIND_INTERDOMAIN]
        result = lib.handle_request(self._handle, number, *arguments)
        if result not in {-errno.ESRCH, -errno.EINVAL}:
            self._fail(Request.BIND_INTERDOMAIN, arguments, result)
        return result == -errno.EINVAL

    def unbind(self, port: SupportsIndex) -> None:
        """Close a port of this handle.

        The other end is not notified (hypervisor). Events of the port that were not taken yet are
        dropped; an adopted handle can still read those in the driver's ring (driver).

        Raises:
            OSError: ENOTCONN: this handle does not have the port. EINVAL: it is higher than the
                kernel can have (driver).
        """
        port = check_uint32("port", port)
        result = lib.handle_unbind(self._handle, port)
        if result < 0:
            self._fail(Request.UNBIND, (port,), result)

    def notify(self, port: SupportsIndex) -> None:
        """Send an event to the other end of a port of this handle.

        If nothing is connected there, the event is silently dropped (hypervisor).

        Raises:
            OSError: ENOTCONN: this handle does not have the port (driver).
            ValueError: the port is bound to a VIRQ: it has no other end, and the kernel would
                report no error.
        """
        if type(port) is not int or port >> 32:
            port = check_uint32("port", port)
        result = _notify(self._handle, port)
        if result < 0:
            self._fail_notify((port,), result)

    def notify_many(self, ports: Iterable[SupportsIndex]) -> int:
        """Send an event to the other end of each port, in order, in one call into C.

        It stops at the first port that fails. Other threads can run during the call; signals are
        handled after it.

        Args:
            ports: any iterable of ports; a contiguous buffer of unsigned 32-bit numbers, such as
                ``array("I")``, is not copied.

        Returns:
            How many ports were notified: all of them.

        Raises:
            PartialNotify: ENOTCONN: the handle does not have a port (driver). The exception says
                which, and how many were notified before it.
            ValueError: a port is bound to a VIRQ, or is negative or over 32 bits; then none is
                notified.
            TypeError: a port is not an integer; then none is notified.
        """
        data = pack_ports(ports)
        count = len(data) // PORT_BYTES
        pointer = ffi.from_buffer("uint32_t[]", data)
        result = lib.handle_notify_many(self._handle, pointer, count)
        if result < 0:
            self._fail_notify(memoryview(data).cast("I"), result)
        if result >> 32:
            sent = result & 0xFFFF_FFFF
            port = memoryview(data).cast("I")[sent]
            raise partial_notify(port, sent, result >> 32, self.name)
        return count

    def restrict_domid(self, domid: SupportsIndex) -> None:
        """Limit the handle, permanently, to connecting to one domain.

        After that BIND_VIRQ, BIND_UNBOUND_PORT, and BIND_INTERDOMAIN to any other domid fail with
        PermissionError; the handle's ports still work (driver). BIND_STATIC is not limited.

        Raises:
            PermissionError: the handle is already restricted (driver).
            OSError: EINVAL for domid 0 and the reserved ones (DOMID_FIRST_RESERVED and above).
        """
        domid = check_domid("domid", domid)
        result = lib.handle_request(self._handle, NUMBERS[Request.RESTRICT_DOMID], domid, 0)
        if result < 0:
            self._fail(Request.RESTRICT_DOMID, (domid,), result)

    def _bind(self, request: Request, first: int, second: int = 0) -> int:
        """Make a request that binds a port, and return the port."""
        batches = self._batches
        try:
            batch = batches.pop()
        except IndexError:
            batch = Batch()
        words = batch.words
        try:
            port = _bind(self._handle, batch.pointer, NUMBERS[request], first, second)
            if port < 0:
                self._fail_bind(request, (first, second)[: len(request.parameters)], port)
            words[BOUND] = 0
            batches += (batch,)
            return port  # noqa: TRY300 - see receiver.py
        except BaseException:
            lib.handle_put_back(self._handle, batch.pointer)
            raise

    def _fail_bind(self, request: Request, arguments: tuple[int, ...], result: int) -> NoReturn:
        if result == lib.HELD:
            raise OSError(
                errno.EBUSY,
                f"bind_static(port={arguments[0]}): refused: another handle of this process holds"
                " the port, and the kernel would oops",
                self.name,
            )
        if (
            request is Request.BIND_VIRQ
            and result == -errno.EEXIST
            and self._is_found_stale() is True
        ):
            raise stale_bind(arguments[0], self.name)
        self._fail(request, arguments, result)

    def _fail_notify(self, ports: Iterable[int], result: int) -> NoReturn:
        """Raise the error of a notification of some ports, of which none was made."""
        if result != lib.HAS_VIRQ:
            self._fail(Request.NOTIFY, tuple(ports)[:1], result)
        bound = {port: self.bindings.get(port) for port in ports}
        for port, binding in bound.items():
            if binding and binding.virq is not None:
                name = virq_name(binding.virq)
                raise ValueError(f"port {port} is bound to VIRQ {name} and has no other end")
        raise ValueError("a port was bound to a VIRQ, and has been unbound meanwhile")

"""EventChannel: a handle of the event-channel driver, the class that people use."""

import errno
import os
from collections.abc import Iterable, Mapping
from itertools import starmap
from typing import Self, SupportsIndex, cast

from .abi import Request, check_domid, check_uint32, pack_ports
from .bindings import Binding
from .device import Device
from .errors import ChannelClosed, StaleHandle, is_stale, partial_notify, stale_bind, virq_hint
from .holders import describe_holder, virq_port
from .opening import adopt_device, open_device
from .receiver import Receiver


class EventChannel(Receiver):
    """An open handle of Xen's event-channel driver: its ports and their events.

    Open one with ``EventChannel.open()`` and use it as a context manager. Closing it unbinds every
    port that it holds.

    A port that delivers an event is masked until ``unmask``. Events that arrive meanwhile become
    one, which is delivered after the unmask. So the order is: read, do the work, unmask.

    Threads: every method may be called from several threads at once. ``close`` wakes those that
    wait, with ChannelClosed. The ports are unbound when the last running call returns. The
    descriptor's number stays reserved until this object is garbage-collected, so no call ever
    reaches another file. If several threads read, each event goes to one of them.

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
        if device is None or not hasattr(device, "turn"):
            device = open_device(device, nonblocking=nonblocking, cloexec=cloexec)
        return cls._make(cast("Device", device), {}, closefd=True)

    @classmethod
    def _make(
        cls, device: Device, bindings: Mapping[int, Binding] | None, *, closefd: bool
    ) -> Self:
        """Make a handle of a device.

        Args:
            device: the device.
            bindings: the ports of the device; None if they are not known.
            closefd: whether closing the handle closes the descriptor.
        """
        made: list[Self] = []
        try:
            # The list's C code makes the handle: wherever a signal handler raises, it is in made.
            made.extend(map(cls, [device]))
            channel = made[0]
            known = channel._bindings  # noqa: SLF001 - its own
            known.complete = bindings is not None
            for port, binding in (bindings or {}).items():
                known.add(port, binding)
            if closefd:
                # The last step: if anything fails, the descriptor still belongs to the caller.
                device.own()
            return channel  # noqa: TRY300
        except BaseException:
            for channel in made:
                channel.close()
            raise

    @classmethod
    def from_fd(
        cls, fd: int, *, closefd: bool = True, bindings: Mapping[int, Binding] | None = None
    ) -> Self:
        """Adopt a descriptor of the driver: inherited, received, or duplicated.

        It shares its ports and pending events with all its duplicates (driver). The driver does not
        tell which ports it holds. They all work, but the handle knows only those in ``bindings``;
        ``recover`` in particular depends on that.

        Args:
            fd: the descriptor.
            closefd: whether closing the handle closes the descriptor.
            bindings: the ``bindings`` of the handle that the descriptor comes from, if known.

        Raises:
            OSError: EBADF: it is not open. ENOTTY: it is not a character device. The descriptor
                does not change then.
        """
        return cls._make(adopt_device(fd), bindings, closefd=closefd)

    def bind_virq(self, virq: int) -> int:
        """Bind a VIRQ to a new port and return the port; it is unmasked.

        A VIRQ with the scope VirqScope.VCPU is bound on vCPU 0 (driver).

        Args:
            virq: a Virq, or its number.

        Raises:
            FileExistsError: the VIRQ is already bound in this domain (hypervisor). The note says to
                which port, and what is known of its holder, if Xen tells (root in dom0).
            StaleHandle: this domain was restored, and the handle's ports are gone, as
                ``check_stale`` finds; where it cannot, this is a FileExistsError too.
            PermissionError: the handle is restricted (driver).
            OSError: EINVAL: Xen does not have the VIRQ. EBUSY: this domain does not handle it (Xen
                4.21 and newer; older ones bind it, but it never fires). ENOSPC: the domain does not
                have a free port.
        """
        virq = check_uint32("virq", virq)
        try:
            return self._bind(Binding(Request.BIND_VIRQ, virq), virq)
        except FileExistsError as error:
            stale = self._explain_bound_virq(virq, error)
            if stale is None:
                raise
        raise stale

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
        return self._bind(Binding(Request.BIND_INTERDOMAIN, None, domid, port), domid, port)

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
        return self._bind(Binding(Request.BIND_UNBOUND_PORT, None, domid), domid)

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
        port = check_uint32("port", port)
        with self._bindings.lock:
            if self._bindings.held_elsewhere(port):
                raise OSError(
                    errno.EBUSY,
                    f"bind_static(port={port}): refused: another handle of this process holds"
                    " the port, and the kernel would oops",
                    self.name,
                )
            self._bind(Binding(Request.BIND_STATIC), port, port=port)

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
        number = -self._request(Request.BIND_INTERDOMAIN)(*arguments)
        if number not in {errno.ESRCH, errno.EINVAL}:
            self._fail(Request.BIND_INTERDOMAIN, arguments, number)
        return number == errno.EINVAL

    def unbind(self, port: SupportsIndex) -> None:
        """Close a port of this handle.

        The other end is not notified (hypervisor). Events of the port that are already in the
        driver's ring are still read, by ``read`` and ``wait`` (driver); ``events`` skips them.

        Raises:
            OSError: ENOTCONN: this handle does not have the port. EINVAL: it is higher than the
                kernel can have (driver).
        """
        port = check_uint32("port", port)
        bindings = self._bindings
        request = self._request(Request.UNBIND)
        with bindings.lock:
            binding = bindings.view.get(port)
            results: list[int] = []
            bindings.remove(port)
            try:
                # As in _bind: wherever a signal handler raises, results says what was done.
                results.extend(map(request, [port]))
                if results[0] < 0:
                    self._fail(Request.UNBIND, (port,), -results[0])
            except BaseException:
                if binding and results != [0]:
                    bindings.add(port, binding)
                raise
            self._inbox.take_port(port)
            self._inbox.peek()
            watcher = self._inbox.watcher
            if watcher is not None:
                watcher.port_unbound(port, binding)

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
        if port in self._bindings.virqs:
            self._bindings.refuse_virqs((port,))
        result = self._notify(port)
        if result < 0:
            self._fail(Request.NOTIFY, (port,), -result)

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
        numbers = memoryview(data).cast("I")
        self._bindings.refuse_virqs(numbers)
        sent, number = self._notify_many(data)
        if number:
            if number == errno.EBADF and self.closed:
                self._refuse()
            raise partial_notify(numbers[sent], sent, number, self.name)
        return sent

    def restrict_domid(self, domid: SupportsIndex) -> None:
        """Limit the handle, permanently, to connecting to one domain.

        After that BIND_VIRQ, BIND_UNBOUND_PORT, and BIND_INTERDOMAIN to any other domid fail with
        PermissionError; the handle's ports still work (driver). BIND_STATIC is not limited.

        Raises:
            PermissionError: the handle is already restricted (driver).
            OSError: EINVAL for domid 0 and the reserved ones (DOMID_FIRST_RESERVED and above).
        """
        self._ioctl(Request.RESTRICT_DOMID, check_domid("domid", domid))

    def _bind(self, binding: Binding, *arguments: int, port: int | None = None) -> int:
        """Make a request that binds a port, record the binding and return the port.

        Args:
            binding: the binding to record.
            arguments: the request's arguments.
            port: the port, if the request does not choose it.
        """
        request = self._request(binding.request)
        results: list[int] = []
        bindings = self._bindings
        try:
            with bindings.lock:
                # The list's C code makes the request and stores the result: wherever a signal
                # handler raises, a port that was bound is in results.
                results.extend(starmap(request, [arguments]))
                if results[0] < 0:
                    self._fail(binding.request, arguments, -results[0])
                port = results[0] if port is None else port
                bindings.add(port, binding)
            return port  # noqa: TRY300 - a handler may raise at the end of the with
        except BaseException:
            if results and results[0] >= 0:
                self._undo_bind(results[0] if port is None else port)
            elif results and is_stale(binding.request, -results[0]):
                self._set_stale()
            raise

    def _explain_bound_virq(self, virq: int, error: FileExistsError) -> StaleHandle | None:
        """Find out who holds a VIRQ that is already bound, and add it to the error as a note.

        Returns:
            The exception to raise instead, if the handle is stale.
        """
        try:
            if self.check_stale():
                return stale_bind(virq, self.name)
            port = virq_port(self._device.port_table(), virq)
            if port is not None:
                holder = describe_holder(port, self._bindings, self.fileno())
                error.__notes__ = [virq_hint(virq, port.port, holder)]
        except (OSError, ValueError, RuntimeError) as failure:
            if isinstance(failure, OSError) and not failure.errno:
                raise  # from a signal handler
        return None

    def _undo_bind(self, port: int) -> None:
        """Unbind a port that the caller does not get, because of an exception."""
        with self._bindings.lock:
            self._bindings.remove(port)
            try:
                self._request(Request.UNBIND)(port)
            except (OSError, ChannelClosed, RuntimeError):
                return  # closed, and the port with it

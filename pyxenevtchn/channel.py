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
    """An open handle of Xen's event-channel driver: its ports, and the events that come on them.

    Open one with ``EventChannel.open()`` and use it as a context manager. Closing it unbinds every
    port that it holds.

    A port that delivers an event is masked until ``unmask``: further events on it become one,
    which comes once it is unmasked. So the order is: read, do the work, unmask.

    Threads: every method may be called from several threads at once. ``close`` wakes those that
    wait, with ChannelClosed. The ports are unbound as the last call under way returns; the
    descriptor's number stays reserved until this object is garbage, so no call ever meets another
    file. Two threads that read share the events between them.

    Fork: a handle belongs to the process that opened it. A child may only close it or take
    ``fileno()``; anything else is a RuntimeError.
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
            device: a path; ``fake:`` or ``fake:unix:PATH``, either with or without ``?domid=N``; a
                Device; or None for what the environment variable XENEVTCHN_DEVICE names, or else
                /dev/xen/evtchn.
            nonblocking: open with O_NONBLOCK: ``read`` then raises BlockingIOError where it would
                have to wait. ``poll`` and ``wait`` are the same either way.
            cloexec: close the descriptor when the process executes another program.

        Raises:
            OSError: it cannot be opened (FileNotFoundError, PermissionError, ...); a note says
                what to do.
            TypeError: it is neither a name nor a Device.
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
            bindings: the ports that it has; None where that is not known.
            closefd: whether its descriptor is closed with the handle.
        """
        made: list[Self] = []
        try:
            # The list's C code makes the handle: it is known below wherever a handler raises.
            made.extend(map(cls, [device]))
            channel = made[0]
            known = channel._bindings  # noqa: SLF001 - its own
            known.complete = bindings is not None
            for port, binding in (bindings or {}).items():
                known.add(port, binding)
            if closefd:
                # The last step: whatever fails, the descriptor is still the caller's.
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

        Its ports and pending events are shared with every duplicate of it (driver). The driver does
        not tell which ports it holds; they all work, but only those in ``bindings`` are known here,
        to ``recover`` above all.

        Args:
            fd: the descriptor.
            closefd: whether closing the handle closes it.
            bindings: the ``bindings`` of the handle that it comes from, if they are known.

        Raises:
            OSError: EBADF where it is not open, ENOTTY where it is no character device. Then the
                descriptor is as it was.
        """
        return cls._make(adopt_device(fd), bindings, closefd=closefd)

    def bind_virq(self, virq: int) -> int:
        """Bind a VIRQ to a new port and return the port; it is unmasked.

        A VIRQ of a vCPU is bound on vCPU 0 (driver).

        Args:
            virq: a Virq, or its number.

        Raises:
            FileExistsError: the VIRQ is already bound in this domain (hypervisor); the note says
                at which port, and what is known of its holder, where Xen can be asked (root).
            StaleHandle: this domain was restored, and the handle's ports are gone, as
                ``check_stale`` tells; where that cannot, it is a FileExistsError too.
            PermissionError: the handle is restricted (driver).
            OSError: EINVAL for a VIRQ that Xen does not have, EBUSY where this domain is not the
                one that handles it (Xen 4.21 and newer; older ones bind it and it never fires),
                ENOSPC when the domain has no port left.
        """
        virq = check_uint32("virq", virq)
        try:
            return self._bind(Binding(Request.BIND_VIRQ, virq), virq)
        except FileExistsError as error:
            stale = self._look_into(virq, error)
            if stale is None:
                raise
        raise stale

    def bind_interdomain(self, remote_domain: SupportsIndex, remote_port: SupportsIndex) -> int:
        """Connect a new port to another domain's unbound port and return it; it is unmasked.

        The new port starts with one event pending, which nobody sent (hypervisor). It says: look
        once at what you share with the other end, which may have written before you connected.

        Args:
            remote_domain: the other end's domid, or DOMID_SELF.
            remote_port: the port that it allocated for this domain.

        Raises:
            ProcessLookupError: there is no such domain.
            PermissionError: the handle is restricted to another domain.
            StaleHandle: this domain was restored, and the handle's ports are gone (driver).
            OSError: EINVAL where the remote port is not unbound, or is reserved for another
                domain; ENOSPC when this domain has no port left.
        """
        domid = check_domid("remote_domain", remote_domain)
        port = check_uint32("remote_port", remote_port)
        return self._bind(Binding(Request.BIND_INTERDOMAIN, None, domid, port), domid, port)

    def bind_unbound_port(self, remote_domain: SupportsIndex) -> int:
        """Allocate a port that ``remote_domain`` may connect to, and return it; it is unmasked.

        When the other end goes away the port is unbound again, in silence (hypervisor).

        Args:
            remote_domain: the domid, or DOMID_SELF; whether it exists is not checked (hypervisor).

        Raises:
            PermissionError: the handle is restricted (driver).
            StaleHandle: this domain was restored, and the handle's ports are gone (driver).
            OSError: ENOSPC when this domain has no port left.
        """
        domid = check_domid("remote_domain", remote_domain)
        return self._bind(Binding(Request.BIND_UNBOUND_PORT, None, domid), domid)

    def bind_static(self, port: SupportsIndex) -> None:
        """Take over a port that exists already: one that Xen set up at boot for this domain.

        Danger: the kernel does not check who owns the port. One that another handle holds, in any
        process, makes it oops when the handles close; one that the kernel itself uses (it answers
        EBUSY) hangs the machine. This refuses the ports of this process's other handles, which is
        all that it can know. Unbinding leaves the port itself open (driver).

        Raises:
            OSError: ENOSYS before Linux 6.6, EISCONN for a port that this handle has, EBUSY for
                one that another handle of this process has (refused here), ENOMEM for one higher
                than the kernel can have.
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
        """Tell whether Xen has a domain with this domid, by a connection that it refuses.

        False is proof that the domain is gone. True is no proof of life: the domain may be dying,
        may have crashed and be preserved, or may be dead while somebody has its memory mapped
        (hypervisor).

        Args:
            domid: the domid, or DOMID_SELF.

        Raises:
            PermissionError: the handle is restricted to another domain (driver); or Xen's policy
                hides the domain.
        """
        # Port 0 is nobody's. Its check comes after that of the domid (hypervisor).
        arguments = (check_domid("domid", domid), 0)
        number = -self._request(Request.BIND_INTERDOMAIN)(*arguments)
        if number not in {errno.ESRCH, errno.EINVAL}:
            self._fail(Request.BIND_INTERDOMAIN, arguments, number)
        return number == errno.EINVAL

    def unbind(self, port: SupportsIndex) -> None:
        """Close a port of this handle.

        The other end is not told (hypervisor). Events of the port that the driver has in its ring
        already are still read, by ``read`` and ``wait`` (driver); ``events`` leaves them out.

        Raises:
            OSError: ENOTCONN for a port that this handle does not have, EINVAL for one higher than
                the kernel can have.
        """
        port = check_uint32("port", port)
        bindings = self._bindings
        request = self._request(Request.UNBIND)
        with bindings.lock:
            binding = bindings.view.get(port)
            results: list[int] = []
            bindings.remove(port)
            try:
                # As in _bind: whatever raises, it is known whether the request was made.
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

        Where nobody is at the other end it is dropped in silence (hypervisor).

        Raises:
            OSError: ENOTCONN for a port that this handle does not have (driver).
            ValueError: the port is a VIRQ's: it has no other end, and the kernel would say nothing.
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

        It stops at the first port that fails. Other threads run meanwhile; signals are handled
        when it is done.

        Args:
            ports: any iterable of ports; a contiguous buffer of unsigned 32-bit numbers, such as
                ``array("I")``, is not copied.

        Returns:
            How many ports were notified: all of them.

        Raises:
            PartialNotify: ENOTCONN, the handle does not have that port; it says which and how many
                were notified before it.
            ValueError: a port is a VIRQ's, or no port; then none is notified.
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
        """Limit the handle, for good, to connecting to one domain.

        Afterwards BIND_VIRQ, BIND_UNBOUND_PORT and BIND_INTERDOMAIN to any other domid fail with
        PermissionError; the ports that it has go on working (driver). BIND_STATIC is not limited.

        Raises:
            PermissionError: it is already restricted.
            OSError: EINVAL for domid 0 and the reserved ones (DOMID_FIRST_RESERVED and above).
        """
        self._ioctl(Request.RESTRICT_DOMID, check_domid("domid", domid))

    def _bind(self, binding: Binding, *arguments: int, port: int | None = None) -> int:
        """Make a request that binds a port, record it and return the port.

        Args:
            binding: what to record.
            arguments: the request's.
            port: the port, where the request does not choose it.
        """
        request = self._request(binding.request)
        results: list[int] = []
        bindings = self._bindings
        try:
            with bindings.lock:
                # The list's C code makes the request and takes the result: wherever a signal
                # handler raises, a port that was bound is known here.
                results.extend(starmap(request, [arguments]))
                if results[0] < 0:
                    self._fail(binding.request, arguments, -results[0])
                port = results[0] if port is None else port
                bindings.add(port, binding)
            return port  # noqa: TRY300 - a handler may raise at the end of the with
        except BaseException:
            if results and results[0] >= 0:
                self._take_back(results[0] if port is None else port)
            elif results and is_stale(binding.request, -results[0]):
                self._set_stale()
            raise

    def _look_into(self, virq: int, error: FileExistsError) -> StaleHandle | None:
        """Find out what it means that a VIRQ is bound already, and note it on the error.

        Returns:
            What to raise instead, if the handle is stale.
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
                raise  # a signal handler's
        return None

    def _take_back(self, port: int) -> None:
        """Unbind a port whose binding an exception has kept from the caller."""
        with self._bindings.lock:
            self._bindings.remove(port)
            try:
                self._request(Request.UNBIND)(port)
            except (OSError, ChannelClosed, RuntimeError):
                return  # closed, and the port with it

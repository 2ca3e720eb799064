"""EventChannel: a handle of the event-channel driver, the class that people use."""

import contextlib
import errno
import os
from collections import deque
from collections.abc import Callable, Generator, Iterable, Mapping
from itertools import repeat
from types import TracebackType
from typing import TYPE_CHECKING, Self, SupportsIndex

from .abi import PORT_BYTES, Request, check_domid, check_uint32, pack_ports
from .bindings import Binding, Bindings
from .device import PAGE_PORTS, Device, adopt_device, open_device
from .errors import ChannelClosed, RingOverflow, partial_notify
from .handle import Handle
from .inbox import Inbox, check_timeout

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer


class EventChannel:
    """An open handle of Xen's event-channel driver: its ports, and the events that come on them.

    Open one with ``EventChannel.open()`` and use it as a context manager. Closing it unbinds every
    port that it holds.

    A port that delivers an event is masked until ``unmask``: further events on it become one,
    which comes once it is unmasked. So the order is: read, do the work, unmask.

    Threads: every method may be called from several threads at once. ``close`` wakes those that
    wait, with ChannelClosed; the descriptor is released when the last call under way has
    returned. Two threads that read share the events between them.

    Fork: a handle belongs to the process that opened it. A child may only close it or take
    ``fileno()``; anything else is a RuntimeError.
    """

    def __init__(self, device: Device) -> None:
        self._handle = Handle(device)
        self._bindings = Bindings(device.port_space)
        self._inbox = Inbox(self._handle)

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
        """
        if device is None or isinstance(device, str | os.PathLike):
            device = open_device(device, nonblocking=nonblocking, cloexec=cloexec)
        return cls(device)

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
            OSError: EBADF where it is not open, ENOTTY where it is no character device.
        """
        channel = cls(adopt_device(fd, closefd=closefd))
        for port, binding in (bindings or {}).items():
            channel._bindings.add(port, binding)
        return channel

    def fileno(self) -> int:
        """Return the descriptor, for select, poll, epoll, asyncio and fcntl.

        Always writable; readable while events are pending; POLLERR alone after an overflow. An
        edge-triggered epoll, like SIGIO, hears of the change from none pending to some (driver).
        """
        return self._handle.fileno()

    def close(self) -> None:
        """Close the handle and unbind its ports; do nothing if it is closed already."""
        self._bindings.release()
        self._handle.close()

    @property
    def name(self) -> str:
        """The device's name: its path, ``fd N`` for an adopted descriptor, or ``fake:...``."""
        return self._handle.device.name

    @property
    def closed(self) -> bool:
        """Whether the handle is closed."""
        return self._handle.closed

    @property
    def bindings(self) -> Mapping[int, Binding]:
        """The ports that this object bound, and how: a live, read-only view.

        Copy it, ``dict(channel.bindings)``, to go through it while other threads bind.
        """
        return self._bindings.view

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        state = "closed" if self.closed else f"fd={self.fileno()} ports={len(self.bindings)}"
        return f"<{type(self).__name__} {self.name} {state}>"

    def bind_virq(self, virq: int) -> int:
        """Bind a VIRQ to a new port and return the port; it is unmasked.

        A VIRQ of a vCPU is bound on vCPU 0 (driver).

        Args:
            virq: a Virq, or its number.

        Raises:
            FileExistsError: the VIRQ is bound in this domain already, by whomever (hypervisor).
            PermissionError: the handle is restricted (driver).
            OSError: EINVAL for a VIRQ that Xen has not, EBUSY where this domain is not the one
                that handles it (Xen 4.21 and newer; older ones bind it and it never fires), ENOSPC
                when the domain has no port left.
        """
        virq = check_uint32("virq", virq)
        return self._bind(Binding(Request.BIND_VIRQ, virq), virq)

    def bind_interdomain(
        self, remote_domain: SupportsIndex, remote_port: SupportsIndex, *, drain: bool = False
    ) -> int:
        """Connect a new port to another domain's unbound port and return it; it is unmasked.

        The new port starts with one event pending, which nobody sent (hypervisor): the first read
        gives it, and it says nothing about the other end. ``drain`` has it swallowed before this
        returns. The hypervisor merges into it what the other end sends meanwhile, so look once,
        after binding, at what you share with the other end; what it sends later is not lost.

        Args:
            remote_domain: the other end's domid, or DOMID_SELF.
            remote_port: the port that it allocated for this domain.
            drain: swallow the event that nobody sent.

        Raises:
            ProcessLookupError: there is no such domain.
            PermissionError: the handle is restricted to another domain.
            OSError: EINVAL where the remote port is not unbound, or is reserved for another
                domain; ENOSPC when this domain has no port left.
        """
        domid = check_domid("remote_domain", remote_domain)
        port = check_uint32("remote_port", remote_port)
        binding = Binding(Request.BIND_INTERDOMAIN, None, domid, port)
        if not drain:
            return self._bind(binding, domid, port)
        with self._bindings.lock:
            local_port = self._inbox.bind_drained(lambda: self._bind(binding, domid, port))
        try:
            self._inbox.wait_drained(local_port)
        except BaseException:
            self.unbind(local_port)
            raise
        return local_port

    def bind_unbound_port(self, remote_domain: SupportsIndex) -> int:
        """Allocate a port that ``remote_domain`` may connect to, and return it; it is unmasked.

        When the other end goes away the port is unbound again, in silence (hypervisor).

        Args:
            remote_domain: the domid, or DOMID_SELF; whether it exists is not checked (hypervisor).

        Raises:
            PermissionError: the handle is restricted (driver).
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
            with self._handle as device:
                if self._bindings.held_elsewhere(port):
                    raise OSError(
                        errno.EBUSY,
                        f"bind_static(port={port}): refused: another handle of this process holds"
                        " the port, and the kernel would oops",
                        device.name,
                    )
                device.ioctl(Request.BIND_STATIC, port)
            self._bindings.add(port, Binding(Request.BIND_STATIC))

    def unbind(self, port: SupportsIndex) -> None:
        """Close a port of this handle. Events of it already in the ring are read all the same.

        The other end is not told (hypervisor).

        Raises:
            OSError: ENOTCONN for a port that this handle has not, EINVAL for one higher than the
                kernel can have.
        """
        port = check_uint32("port", port)
        with self._bindings.lock:
            with self._handle as device:
                device.ioctl(Request.UNBIND, port)
            self._bindings.remove(port)
            self._inbox.forget(port)

    def notify(self, port: SupportsIndex) -> None:
        """Send an event to the other end of a port of this handle.

        Where nobody is at the other end it is dropped in silence (hypervisor).

        Raises:
            OSError: ENOTCONN for a port that this handle has not (driver).
            ValueError: the port is a VIRQ's: it has no other end, and the kernel would say nothing.
        """
        if type(port) is not int or port >> 32:
            port = check_uint32("port", port)
        if port in self._bindings.virqs:
            self._bindings.refuse_virqs((port,))
        handle = self._handle
        try:  # as handle.Handle says
            handle.users.append(None)
            if not handle.usable:
                handle.refuse()
            handle.device.notify(port)
        finally:
            handle.users.pop()
            if not handle.usable:
                handle.leave()

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
            PartialNotify: ENOTCONN, the handle has not that port; it says which and how many were
                notified before it.
            ValueError: a port is a VIRQ's, or no port; then none is notified.
        """
        data = pack_ports(ports)
        numbers = memoryview(data).cast("I")
        self._bindings.refuse_virqs(numbers)
        with self._handle as device:
            sent, number = device.notify_many(data)
            if number:
                raise partial_notify(numbers[sent], sent, number, device.name)
        return sent

    def reset(self) -> None:
        """Empty the ring, pending events included, and clear an overflow.

        The ports whose events were in it stay masked (driver): ``unmask`` every bound port next,
        or use ``recover``, which does both.
        """
        with self._handle as device:
            device.ioctl(Request.RESET)
            self._inbox.forget(*self.bindings)

    def restrict_domid(self, domid: SupportsIndex) -> None:
        """Limit the handle, for good, to connecting to one domain.

        Afterwards BIND_VIRQ, BIND_UNBOUND_PORT and BIND_INTERDOMAIN to any other domid fail with
        PermissionError; the ports that it has go on working (driver). BIND_STATIC is not limited.

        Raises:
            PermissionError: it is restricted already.
            OSError: EINVAL for domid 0 and the reserved ones (DOMID_FIRST_RESERVED and above).
        """
        domid = check_domid("domid", domid)
        with self._handle as device:
            device.ioctl(Request.RESTRICT_DOMID, domid)

    def read(self, max_ports: SupportsIndex = 1024) -> list[int]:
        """Take pending events and return their ports, oldest first; each is masked now.

        A port can come twice, if it was unmasked before it was read, and can be one that has been
        unbound since (driver). A handle that blocks waits for an event.

        Args:
            max_ports: the most to take; the driver gives one page of them at most (1024 on x86).

        Raises:
            BlockingIOError: nothing is pending and the handle does not block.
            RingOverflow: events were dropped; nothing can be read until ``reset``.
            ChannelClosed: the handle was closed, before or while this waited.
        """
        return self._inbox.read(check_uint32("max_ports", max_ports))

    def read_into(self, buffer: "WriteableBuffer") -> int:
        """Take pending events into a buffer of unsigned 32-bit ports, as ``read`` does.

        Never waits, whether the handle blocks or not.

        Args:
            buffer: writable and contiguous, of 4-byte items: ``array("I", bytes(4096))``, say. As
                many ports as it has room for are taken; the driver gives one page at most.

        Returns:
            How many ports were written.

        Raises:
            BlockingIOError: nothing is pending.
            RingOverflow: events were dropped; nothing can be read until ``reset``.
            TypeError: the buffer is read-only, or its items are not of 4 bytes.
        """
        view = memoryview(buffer)
        if view.readonly or view.itemsize != PORT_BYTES or not view.contiguous:
            raise TypeError("read_into needs a writable, contiguous buffer of 4-byte items")
        return self._inbox.read_into(view.cast("B"))

    def unmask(self, ports: SupportsIndex | Iterable[SupportsIndex]) -> int:
        """Let ports deliver again; an event that came while one was masked comes now.

        The driver skips, in silence, ports that are unmasked already or not of this handle.

        Args:
            ports: one port or any number of them, as in ``notify_many``.

        Returns:
            How many ports were handed to the driver.
        """
        data = pack_ports(ports)
        handle = self._handle
        try:  # as handle.Handle says
            handle.users.append(None)
            if not handle.usable:
                handle.refuse()
            size = len(data)
            done = handle.device.write(data) if size else 0
            while done != size:
                done += handle.device.write(data[done:])
        finally:
            handle.users.pop()
            if not handle.usable:
                handle.leave()
        return done // PORT_BYTES

    def poll(self, timeout: float | None = None) -> int:
        """Wait until an event is pending or the ring has overflowed.

        Args:
            timeout: seconds; None waits for ever, 0 not at all.

        Returns:
            select.POLLIN, select.POLLERR after an overflow, or 0 when the time is over.

        Raises:
            ChannelClosed: the handle was closed, before or while this waited.
        """
        return self._inbox.poll(timeout)

    def wait(self, timeout: float | None = None) -> list[int]:
        """Wait for events and take them: ``poll``, then ``read``.

        Args:
            timeout: seconds; None waits for ever, 0 not at all.

        Returns:
            The ports, oldest first, each masked now; [] when the time is over.

        Raises:
            RingOverflow: events were dropped; nothing can be read until ``reset``.
            ChannelClosed: the handle was closed, before or while this waited.
        """
        inbox, handle = self._inbox, self._handle
        ports: list[int] = []
        try:
            try:  # as handle.Handle says
                handle.users.append(None)
                if not handle.usable:
                    handle.refuse()
                if inbox.backlog:
                    check_timeout(timeout)
                    ports = inbox.from_backlog(PAGE_PORTS)
                else:
                    ports = inbox.from_ring(handle.device, timeout, PAGE_PORTS)
            finally:
                handle.users.pop()
                if not handle.usable:
                    handle.leave()
        except BaseException:  # a signal handler's, in the midst of it
            inbox.put_back(ports)
            raise
        return ports

    def events(
        self,
        timeout: float | None = None,
        *,
        on_overflow: Callable[[frozenset[int]], object] | None = None,
    ) -> Generator[int]:
        """Go through the events as they come: ``for port in channel.events(): ...``.

        The port is masked while the body works and unmasked once the body is done with it, however
        it ends: the next turn, break, an exception, or ``close()`` of this generator. Ports are
        read and unmasked in batches: what a port sends meanwhile comes after the batch, as one
        event. A loop that is left in the middle of a batch loses nothing: the rest comes first
        next time, from ``events``, ``wait``, ``read`` and ``poll`` of this handle (not from
        select or epoll on its descriptor, which do not know of it).

        Events of a port that this handle has unbound since are left out; ``read`` and ``wait``
        show them.

        Args:
            timeout: seconds without an event after which the loop ends; None never ends it, 0 ends
                it when nothing is pending.
            on_overflow: called with the result of ``recover`` when the ring has overflowed; the
                loop then goes on.

        Raises:
            RingOverflow: events were dropped, and ``on_overflow`` is None.
            ChannelClosed: the handle was closed, before or during the loop.
        """
        done: list[int] = []
        port = None
        backlog, unbound = self._inbox.backlog, self._bindings.unbound
        try:
            while True:
                # Until it is empty, whoever else takes from it meanwhile.
                with contextlib.suppress(IndexError):
                    for port in map(deque.popleft, repeat(backlog)):
                        if unbound and port in unbound and self._bindings.is_stale(port):
                            continue
                        # Nothing in between: no signal handler comes before the loop has it.
                        yield port
                        done.append(port)
                port = None
                if done:
                    self.unmask(done)
                    done.clear()
                try:
                    ports = self.wait(timeout)
                except RingOverflow:
                    if on_overflow is None:
                        raise
                    on_overflow(self.recover())
                    continue
                if not ports:
                    return
                backlog.extend(ports)
        finally:
            self._unmask_left(done if port is None else [*done, port])

    def recover(self) -> frozenset[int]:
        """Go on after an overflow: empty the ring and unmask every bound port.

        Events that the hypervisor kept, those of ports that were masked, come again.

        Returns:
            The ports whose events may have been lost: every bound one, since the driver does not
            tell. Look at what each stands for as if an event had come.
        """
        with self._bindings.lock:
            ports = frozenset(self.bindings)
            self.reset()
            self.unmask(ports)
        return ports

    def _unmask_left(self, ports: list[int]) -> None:
        """Unmask what a loop leaves behind, unless the handle is closed or the parent process's."""
        with contextlib.suppress(ChannelClosed, RuntimeError):
            self.unmask(ports)

    def _bind(self, binding: Binding, *arguments: int) -> int:
        handle = self._handle
        with self._bindings.lock:
            try:  # as handle.Handle says
                handle.users.append(None)
                if not handle.usable:
                    handle.refuse()
                port = handle.device.ioctl(binding.request, *arguments)
            finally:
                handle.users.pop()
                if not handle.usable:
                    handle.leave()
            self._bindings.add(port, binding)
        return port

"""How a handle receives its events.

Why no event is lost, and none comes twice
==========================================

The problem. CPython runs a signal handler in the middle of a Python function, and the handler may
raise: Ctrl-C does. A function that took events off the ring then ends without a result, and the
events are gone: nobody handles them, and their ports stay masked for good. Worse, the exception can
come when the call into C has succeeded, before its result is stored anywhere.

What does not work. ``try`` and ``finally`` around the call: what was taken is known only by the
result, which is lost. A lock, or a flag that is set after the call, is late by the same step. To
block signals costs two system calls for each event, and a thread can be sent an exception, too.

The solution. What the core takes, it writes into a batch: memory that was there before the call. It
stays there until Python stores 0 in the batch's COUNT, when it has made its own list of the ports.
Whatever is raised before that store, the ``except`` clause gives what the batch has back to the
core, where it comes before all other events.

It rests on this rule of CPython, in all versions from 3.11: signals are looked at, and the GIL may
change hands, only when a call returns, when a function begins, and at a jump backwards. Nothing can
come between the stores at the end of a function and its caller: stores to items, attributes and
local variables, and then the return. That is the shape of every function, here and in channel.py,
that takes something:

    try:
        found = lib.handle_wait(...)      # what it takes is in the batch
        ports = ...                       # calls may come here
        words[COUNT] = 0                  # stores only: the caller has the ports now
        batches += (batch,)
        return ports
    except BaseException:
        lib.handle_put_back(...)
        raise

The batch becomes a spare one by the last store: a handler that calls this handle meanwhile cannot
get it. ``+=`` on a list is one step without a GIL, too.

What can still fail. A caller in C, such as ``map`` or ``functools.partial``, looks at signals
before it has stored the result, and can lose it. And an event of a loop counts as handed over as
soon as the loop's body begins.
"""

import errno
import sys
from collections.abc import Callable, Generator, Iterable
from typing import TYPE_CHECKING, Any, SupportsIndex

from .abi import PORT_BYTES, Request, check_uint32, pack_ports
from .compiled import ffi, lib
from .handle import COUNT, DONE, PORTS, Batch, Handle
from .timeouts import to_deadline, to_nanoseconds

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer
else:
    WriteableBuffer = Any

NO_PORTS: tuple[int, ...] = ()
PAGE_PORTS: int = lib.PAGE_PORTS

# The formats of buffers of native unsigned 32-bit words.
_WORDS = {"I", "@I", "=I", "<I" if sys.byteorder == "little" else ">I"}

# Looked up once: they are called for every event.
_wait, _next, _unmask_one = lib.handle_wait, lib.handle_next, lib.handle_unmask_one


class Receiver(Handle):
    """The event methods of EventChannel."""

    _watcher: Any = None
    """What watches the handle for an event loop, if anything does."""

    def read(self, max_ports: SupportsIndex = 1024) -> list[int]:
        """Take pending events and return their ports, oldest first; each is then masked.

        A port can appear twice, if it was unmasked before its event was read (driver). A blocking
        handle waits for an event.

        Args:
            max_ports: the most ports to take; at most 1024 are taken.

        Raises:
            BlockingIOError: no event is pending and the handle is nonblocking.
            RingOverflow: events were dropped; nothing can be read until ``reset``.
            ChannelClosed: the handle was closed, before or while this waited.
        """
        most = min(check_uint32("max_ports", max_ports), PAGE_PORTS)
        if not most:
            self._check()
            return []
        ports = self._take(-1 if self._device.blocking else 0, most, NO_PORTS)
        if not ports:
            self._fail("read", (most * PORT_BYTES,), -errno.EAGAIN)
        return ports

    def read_into(self, buffer: "WriteableBuffer") -> int:
        """Take pending events into a buffer of unsigned 32-bit ports, as ``read`` does.

        It never waits, even if the handle is blocking.

        Args:
            buffer: a writable, contiguous buffer of unsigned 32-bit items, such as
                ``array("I", bytes(4096))``. It receives as many ports as fit, at most 1024.

        Returns:
            How many ports were written.

        Raises:
            BlockingIOError: no event is pending.
            RingOverflow: events were dropped; nothing can be read until ``reset``.
            TypeError: the buffer is read-only, not contiguous, or has other items.
        """
        view = memoryview(buffer)
        if view.format not in _WORDS or not view.contiguous or view.readonly:
            raise TypeError(
                "read_into needs a writable, contiguous buffer of unsigned 32-bit items"
            )
        target = view.cast("B").cast("I")
        most = min(len(target), PAGE_PORTS)
        if not most:
            self._check()
            return 0
        batch = Batch()
        words = batch.words
        try:
            found = _wait(self._handle, batch.pointer, 0, most, 0)
            count = self._finish(batch, 0, most, found)
            if not count:
                self._fail("read", (most * PORT_BYTES,), -errno.EAGAIN)
            target[:count] = words[PORTS : PORTS + count]
            words[COUNT] = 0
            return count  # noqa: TRY300 - see above
        except BaseException:
            lib.handle_put_back(self._handle, batch.pointer)
            raise

    def unmask(self, ports: SupportsIndex | Iterable[SupportsIndex]) -> int:
        """Unmask ports; an event that arrived while a port was masked is delivered now.

        The driver silently skips ports that are already unmasked or not of this handle.

        Args:
            ports: one port or any number of them, as in ``notify_many``.

        Returns:
            How many ports were passed to the driver.
        """
        # Usually one port is unmasked.
        only = ports[0] if type(ports) is list and len(ports) == 1 else ports
        if type(only) is int and not only >> 32:
            result = _unmask_one(self._handle, only)
            if result < 0:
                self._fail("write", (PORT_BYTES,), result)
            return 1
        data = pack_ports(ports)
        count = len(data) // PORT_BYTES
        result = lib.handle_unmask(self._handle, ffi.from_buffer("uint32_t[]", data), count)
        if result < 0:
            self._fail("write", (len(data),), result)
        return count

    def poll(self, timeout: float | None = None) -> int:
        """Wait until an event is pending or the ring has overflowed.

        Args:
            timeout: seconds; None waits forever, 0 does not wait.

        Returns:
            select.POLLIN; select.POLLERR after an overflow; 0 if the timeout expired.

        Raises:
            ChannelClosed: the handle was closed, before or while this waited.
            StaleHandle: the handle was found to be stale, before or while this waited.
            ValueError: the timeout is negative or not a number.
        """
        deadline = to_deadline(to_nanoseconds(timeout))
        result = lib.handle_poll(self._handle, deadline)
        while result == -errno.EINTR:
            result = lib.handle_poll(self._handle, deadline)
            if result == lib.CLOSED:
                result = lib.CLOSED_MEANWHILE  # by the signal's handler
        if result < 0:
            self._fail("poll", (), result)
        return result

    def wait(
        self,
        timeout: float | None = None,
        *,
        unmask: SupportsIndex | Iterable[SupportsIndex] = NO_PORTS,
    ) -> list[int]:
        """Unmask ports, wait for events and take them, in one call into C.

        Args:
            timeout: seconds; None waits forever, 0 does not wait.
            unmask: ports to unmask first, usually those of the last ``wait``; as in ``unmask``.

        Returns:
            The ports, oldest first, each masked now; [] if the timeout expired.

        Raises:
            RingOverflow: events were dropped; nothing can be read until ``reset``.
            ChannelClosed: the handle was closed, before or while this waited.
            StaleHandle: the handle was found to be stale, before or while this waited.
            ValueError: the timeout is negative or not a number.
        """
        # The fast path for the usual timeouts.
        if timeout is None:
            deadline = -1
        else:
            deadline = (
                0 if timeout == 0 and type(timeout) is int else to_deadline(to_nanoseconds(timeout))
            )
        return self._take(deadline, PAGE_PORTS, unmask)

    def events(
        self,
        timeout: float | None = None,
        *,
        on_overflow: Callable[[frozenset[int]], object] | None = None,
    ) -> Generator[int, None, None]:
        """Iterate over the events as they arrive: ``for port in channel.events(): ...``.

        A port is masked while the loop's body runs and unmasked after it, however it ends: by the
        next iteration, ``break``, an exception, or ``close()`` of this generator. Ports are read
        and unmasked in batches: events that arrive for a port meanwhile are delivered after the
        batch, as one. Leaving the loop in the middle of a batch loses nothing: the next reader gets
        the rest first, by any method of this handle or of an AsyncEventChannel on it (but not by
        select or epoll on its descriptor, which do not know of these events). While the loop runs,
        other readers may take events from its batch.

        Args:
            timeout: seconds without an event after which the loop ends; None never ends it, 0 ends
                it when no event is pending.
            on_overflow: called with the result of ``recover`` when the ring has overflowed; the
                loop then continues.

        Raises:
            RingOverflow: events were dropped, and ``on_overflow`` is None.
            ChannelClosed: the handle was closed, before or during the loop.
            ValueError: the timeout is negative or not a number.
        """
        return self._events(to_nanoseconds(timeout), on_overflow)

    def reset(self) -> None:
        """Empty the ring, which drops pending events, and clear an overflow.

        The ports whose events were in the ring stay masked (driver): ``unmask`` every bound port
        next, or use ``recover``, which does both.
        """
        result = lib.handle_reset(self._handle)
        if result < 0:
            self._fail(Request.RESET, (), result)

    def recover(self) -> frozenset[int]:
        """Recover from an overflow: empty the ring and unmask every bound port.

        Events that arrived while a port was masked are delivered then: the hypervisor kept them.

        Returns:
            The ports whose events may have been lost: every bound one, because the driver does not
            tell. Handle each as if an event had arrived.
        """
        room, count = 0, 1
        while count > room:
            room = count + 64
            ports = ffi.new("uint32_t[]", room)
            count = lib.handle_recover(self._handle, ports, room)
        if count < 0:
            self._fail(Request.RESET, (), count)
        return frozenset(ports[0:count])

    def _events(
        self,
        nanoseconds: int,
        on_overflow: Callable[[frozenset[int]], object] | None,
        *,
        idle: bool = False,
    ) -> Generator[int, None, None]:
        """Iterate over the events as ``events`` does.

        The core hands over one event in a call, and makes no system call until its batch ends. The
        next call tells it that the body is done with the port.

        Args:
            nanoseconds: how long to wait for each event; -1 waits forever.
            on_overflow: see ``events``.
            idle: yield 0 if no event arrives in time, instead of ending.
        """
        handle, batch = self._handle, Batch()
        pointer = batch.pointer
        deadline, is_limited = to_deadline(nanoseconds), nanoseconds > 0
        # Whether the body got the port that the core has handed over last.
        handed_over = False
        try:
            while True:
                handed_over = False
                port = _next(handle, pointer, deadline)
                if port > 0:
                    handed_over = True
                    yield port
                elif port == -errno.EINTR:
                    continue  # to the same deadline
                elif port == 0:
                    if not idle:
                        return
                    yield 0
                elif port == -errno.EFBIG and on_overflow is not None:
                    on_overflow(self.recover())
                else:
                    self._fail_transfer(batch, PAGE_PORTS, port)
                if is_limited:
                    deadline = to_deadline(nanoseconds)
        finally:
            if lib.handle_leave(handle, pointer, handed_over) == lib.RAISED:
                self._fail("write", (), lib.RAISED)

    def _take(
        self, deadline: int, most: int, unmask: SupportsIndex | Iterable[SupportsIndex]
    ) -> list[int]:
        """Unmask ports, and take at most ``most`` events, as ``wait`` does."""
        batches = self._batches
        try:
            batch = batches.pop()
        except IndexError:
            batch = Batch()
        words = batch.words
        try:
            port = 0
            if unmask is not NO_PORTS:
                # Usually one port is unmasked.
                if type(unmask) is list and len(unmask) == 1:
                    port = check_uint32("port", unmask[0])
                else:
                    self._set_done(words, unmask)
            found = _wait(self._handle, batch.pointer, deadline, most, port)
            if found >> 32:
                count = self._finish(batch, deadline, most, found)
                ports = words[PORTS : PORTS + count].tolist()
            else:
                ports = [found] if found else []
            words[COUNT] = 0
            batches += (batch,)
            return ports  # noqa: TRY300 - see above
        except BaseException:
            lib.handle_put_back(self._handle, batch.pointer)
            raise

    def _finish(self, batch: Batch, deadline: int, most: int, found: int) -> int:
        """Go on after a signal, with what handle_wait has returned; return how many events came."""
        while found == -errno.EINTR:
            found = _wait(self._handle, batch.pointer, deadline, most, 0)
            if found == lib.CLOSED:
                found = lib.CLOSED_MEANWHILE  # by the signal's handler
        if found < 0:
            self._fail_transfer(batch, most, found)
        return batch.words[COUNT]

    def _set_done(self, words: memoryview, ports: SupportsIndex | Iterable[SupportsIndex]) -> None:
        """Write the ports to unmask into a batch's words."""
        data = pack_ports(ports)
        if len(data) > PORT_BYTES * PAGE_PORTS:
            self.unmask(memoryview(data)[PORT_BYTES * PAGE_PORTS :].cast("I"))
            data = data[: PORT_BYTES * PAGE_PORTS]
        count = len(data) // PORT_BYTES
        words[PORTS : PORTS + count] = memoryview(data).cast("I")
        words[DONE] = count

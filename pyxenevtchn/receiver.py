"""How a handle receives its events: from the inbox and from the driver's ring."""

import errno
import os
import select
import sys
import time
from collections.abc import Callable, Generator, Iterable, Mapping
from typing import TYPE_CHECKING, Any, NoReturn, SupportsIndex

from .abi import PORT_BYTES, Request, check_uint32, pack_ports
from .device import DONE, PAGE_PORTS, PORTS, UNREAD, Page
from .errors import ChannelClosed, RingOverflow, StaleHandle
from .handle import Handle
from .timeouts import POLL_MOST, to_nanoseconds

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer
else:
    WriteableBuffer = Any

NO_PORTS: tuple[int, ...] = ()

# The formats of buffers of native unsigned 32-bit words.
_WORDS = {"I", "@I", "=I", "<I" if sys.byteorder == "little" else ">I"}


class Receiver(Handle):
    """The event methods of EventChannel.

    Until the last step before the return, an event that was read stays in its page or in the inbox,
    and no signal handler runs after that step. So no event is lost, wherever a signal handler
    raises: the next reader gets it.
    """

    def read(self, max_ports: SupportsIndex = 1024) -> list[int]:
        """Take pending events and return their ports, oldest first; each is then masked.

        A port can appear twice, if it was unmasked before its event was read, and it may have been
        unbound since (driver). A blocking handle waits for an event.

        Args:
            max_ports: the most ports to take; the driver returns at most a page (1024 on x86).

        Raises:
            BlockingIOError: no event is pending and the handle is nonblocking.
            RingOverflow: events were dropped; nothing can be read until ``reset``.
            ChannelClosed: the handle was closed, before or while this waited.
        """
        most = min(check_uint32("max_ports", max_ports), PAGE_PORTS)
        if not most:
            self._check_usable()
            return []
        ports = self._take(-1 if self._device.blocking else 0, most)
        if not ports:
            self._fail("read", (most * PORT_BYTES,), errno.EAGAIN)
        return ports

    def read_into(self, buffer: "WriteableBuffer") -> int:
        """Take pending events into a buffer of unsigned 32-bit ports, as ``read`` does.

        It never waits, even if the handle is blocking.

        Args:
            buffer: a writable, contiguous buffer of unsigned 32-bit items, such as
                ``array("I", bytes(4096))``. It receives as many ports as fit, at most a page (1024
                on x86).

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
        words = view.cast("B").cast("I")
        most = min(len(words), PAGE_PORTS)
        inbox = self._inbox
        page = inbox.page()
        self._check_usable()
        try:
            count = self._fill(page, 0, most) if most else 0
            if most and not count:
                self._fail("read", (most * PORT_BYTES,), errno.EAGAIN)
            words[:count] = page.words[PORTS : PORTS + count]
            page.words[UNREAD] = 0
            inbox.pages["spare"] = page
            return count  # noqa: TRY300 - no step may come between
        except BaseException:
            inbox.put_back_page(page)
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
            result = self._unmask_one(only)
            if result < 0:
                self._fail("write", (PORT_BYTES,), -result)
            return 1
        data = bytes(pack_ports(ports))
        size = len(data)
        result = self._unmask(data, size)
        if result < 0:
            self._fail("write", (size,), -result)
        return size // PORT_BYTES

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
        left = to_nanoseconds(timeout)
        end = time.monotonic_ns() + left
        self._check_usable()
        fd = self._device.fileno()
        poller = select.poll()
        poller.register(fd, select.POLLIN)
        poller.register(self._inbox.descriptor, select.POLLIN)
        there = self._inbox.holds_events() and self._inbox.peek()
        while True:
            milliseconds = 0 if there else None if left < 0 else min(left / 1e6, POLL_MOST)
            ready = dict(poller.poll(milliseconds))
            if self.closed:
                self._raise_closed_during_wait()
            if self.stale:
                self._refuse()
            if self._inbox.descriptor in ready:
                there = self._inbox.peek()
            if fd in ready or there:
                return ready.get(fd, select.POLLIN)
            if left >= 0:
                left = max(0, end - time.monotonic_ns())
                if not left:
                    return 0

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
            nanoseconds = -1
        else:
            nanoseconds = 0 if timeout == 0 and type(timeout) is int else to_nanoseconds(timeout)
        inbox = self._inbox
        if inbox.left or inbox.batches or inbox.reserved:
            return self._take(nanoseconds, PAGE_PORTS, unmask)
        page = inbox.pages.pop("spare", None) or inbox.page()
        words = page.words
        try:
            port = 0
            if unmask is not NO_PORTS:
                # Usually one port is unmasked.
                if type(unmask) is list and len(unmask) == 1:
                    port = check_uint32("port", unmask[0])
                else:
                    self._set_done(words, unmask)
            count = self._turn(inbox.descriptor, page.pointer, PAGE_PORTS, nanoseconds, port)
            if count < 0:
                count = self._retry_turn(page, PAGE_PORTS, count)
            ports = [words[PORTS]] if count == 1 else words[PORTS : PORTS + count].tolist()
            # No signal handler can run between these steps and the caller.
            words[UNREAD] = 0
            inbox.pages["spare"] = page
            return ports  # noqa: TRY300
        except BaseException:
            inbox.put_back_page(page)
            raise

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

        Events of a port that this handle has unbound since are skipped; ``read`` and ``wait``
        return them.

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
        self._ioctl(Request.RESET)

    def recover(self) -> frozenset[int]:
        """Recover from an overflow: empty the ring and unmask every bound port.

        Events that arrived while a port was masked are delivered then: the hypervisor kept them.

        Returns:
            The ports whose events may have been lost: every bound one, because the driver does not
            tell. Handle each as if an event had arrived.
        """
        with self._bindings.lock:
            ports = frozenset(self.bindings)
            self.reset()
            self.unmask(ports)
        return ports

    def _events(  # noqa: C901, PLR0912, PLR0915 - a handler may run at each call
        self,
        nanoseconds: int,
        on_overflow: Callable[[frozenset[int]], object] | None,
        *,
        idle: bool = False,
    ) -> Generator[int, None, None]:
        """Iterate over the events as ``events`` does.

        Args:
            nanoseconds: how long to wait for each batch; -1 waits forever.
            on_overflow: see ``events``.
            idle: yield 0 if no event arrives in time, instead of ending.
        """
        inbox, unbound = self._inbox, self._bindings.unbound
        page = inbox.page()
        words, pointer = page.words, page.pointer
        batch, count = None, 0
        # How many of the page's ports were yielded to the body.
        done = 0
        try:
            while True:
                words[DONE], done = done, 0
                try:
                    if inbox.left or inbox.batches or inbox.reserved:
                        count = self._fill(page, nanoseconds, PAGE_PORTS)
                    else:
                        count = self._turn(inbox.descriptor, pointer, PAGE_PORTS, nanoseconds, 0)
                        if count < 0:
                            count = self._retry_turn(page, PAGE_PORTS, count)
                except RingOverflow:
                    if on_overflow is None:
                        raise
                    on_overflow(self.recover())
                    continue
                if not count:
                    if not idle:
                        return
                    yield 0
                    continue
                if unbound:
                    count = _drop_ports(words, count, unbound)
                    if not count:
                        continue
                if count == 1:
                    words[UNREAD] = 0
                    done = 1
                    yield words[PORTS]
                else:
                    batch = zip(  # noqa: B905 - of equal length
                        words[PORTS : PORTS + count].tolist(), range(1, count + 1)
                    )
                    inbox.batches[batch] = None
                    words[UNREAD] = 0
                    for port, done in batch:  # noqa: B007 - for the finally
                        yield port
                    inbox.batches.pop(batch, None)
        finally:
            if words[UNREAD]:
                inbox.put_back_page(page)
            if done:
                words[DONE] = done
            try:
                if words[DONE] and not self._inherited:
                    self._turn(-1, pointer, 0, 0, 0)
            except (ChannelClosed, StaleHandle):
                pass
            finally:
                if done == count and batch in inbox.batches:
                    del inbox.batches[batch]  # it is exhausted
                if inbox.left or inbox.batches:
                    os.eventfd_write(inbox.descriptor, 1)

    def _set_done(self, words: memoryview, ports: SupportsIndex | Iterable[SupportsIndex]) -> None:
        """Write the ports to unmask into a page's words."""
        data = pack_ports(ports)
        if len(data) > PORT_BYTES * PAGE_PORTS:
            self.unmask(memoryview(data)[PORT_BYTES * PAGE_PORTS :].cast("I"))
            data = data[: PORT_BYTES * PAGE_PORTS]
        count = len(data) // PORT_BYTES
        words[PORTS : PORTS + count] = memoryview(data).cast("I")
        words[DONE] = count

    def _take(
        self,
        nanoseconds: int,
        most: int,
        unmask: SupportsIndex | Iterable[SupportsIndex] = NO_PORTS,
    ) -> list[int]:
        """Take events as ``wait`` does, those of the inbox first."""
        inbox = self._inbox
        page = inbox.page()
        try:
            if unmask is not NO_PORTS:
                self._set_done(page.words, unmask)
            count = self._fill(page, nanoseconds, most)
            ports: list[int] = page.words[PORTS : PORTS + count].tolist()
            page.words[UNREAD] = 0
            inbox.pages["spare"] = page
            return ports  # noqa: TRY300
        except BaseException:
            inbox.put_back_page(page)
            raise

    def _pull(self, unmask: Iterable[SupportsIndex]) -> int:
        """Unmask ports, and read the driver's events into the inbox; return how many."""
        inbox = self._inbox
        page = inbox.page()
        try:
            self._set_done(page.words, unmask)
            count = self._turn(inbox.descriptor, page.pointer, PAGE_PORTS, 0, 0)
            if count < 0:
                self._fail_turn(page, PAGE_PORTS, count)
            inbox.add(page.words[PORTS : PORTS + count].tolist())
            page.words[UNREAD] = 0
            return count  # noqa: TRY300
        except BaseException:
            inbox.put_back_page(page)
            raise

    def _fill(self, page: Page, nanoseconds: int, most: int) -> int:
        """Fill a page with events: those of the inbox if there are any, else those of a turn."""
        inbox = self._inbox
        if inbox.left or inbox.batches or inbox.reserved:
            if page.words[DONE]:
                count = self._turn(-1, page.pointer, 0, 0, 0)
                if count < 0:
                    self._fail_turn(page, most, count)
            else:
                self._check_usable()
            watcher = inbox.watcher
            if watcher is not None and inbox.reserved and self._pull(NO_PORTS):
                # Events that a task waits for are not for other readers.
                watcher.events_came()
            count = inbox.fill(page, most) if inbox.holds_events() else 0
            if count or (inbox.reserved and not nanoseconds):
                return count
        count = self._turn(inbox.descriptor, page.pointer, most, nanoseconds, 0)
        return count if count >= 0 else self._retry_turn(page, most, count)

    def _retry_turn(self, page: Page, most: int, count: int) -> int:
        """Repeat a turn that was woken without a port, until there is one or the time is over."""
        while count < 0:
            if self.closed:
                self._raise_closed_during_wait()
            if count not in {-errno.EAGAIN, -errno.EINTR}:
                self._fail_turn(page, most, count)
            count = self._inbox.fill(page, most)
            if not count:
                left = page.times[0]
                count = self._turn(self._inbox.descriptor, page.pointer, most, left, 0)
        return count

    def _fail_turn(self, page: Page, most: int, result: int) -> NoReturn:
        """Raise the error of a turn's write or read."""
        done = page.words[DONE]
        self._fail("write" if done else "read", (PORT_BYTES * (done or most),), -result)


def _drop_ports(words: memoryview, count: int, unbound: Mapping[int, None]) -> int:
    """Remove unbound ports from those in a page; return how many remain."""
    ports = [port for port in words[PORTS : PORTS + count].tolist() if port not in unbound]
    words[PORTS : PORTS + len(ports)] = memoryview(pack_ports(ports)).cast("I")
    words[UNREAD] = len(ports)
    return len(ports)

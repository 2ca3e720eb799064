"""How a handle takes its events: from the inbox, and from the driver's ring."""

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

# What buffers of the machine's own unsigned 32-bit words call their items.
_WORDS = {"I", "@I", "=I", "<I" if sys.byteorder == "little" else ">I"}


class Receiver(Handle):
    """EventChannel's events.

    What was read is in the page that it was read into, or in the inbox, until the last step before
    the return, and no signal handler runs after that step: so an exception of a handler, wherever
    it strikes, leaves every event to whoever reads next.
    """

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
        most = min(check_uint32("max_ports", max_ports), PAGE_PORTS)
        self._check_usable()
        if not most:
            return []
        ports = self._take(-1 if self._device.blocking else 0, most)
        if not ports:
            self._fail("read", (most * PORT_BYTES,), errno.EAGAIN)
        return ports

    def read_into(self, buffer: "WriteableBuffer") -> int:
        """Take pending events into a buffer of unsigned 32-bit ports, as ``read`` does.

        Never waits, whether the handle blocks or not.

        Args:
            buffer: writable and contiguous, of unsigned 32-bit items: ``array("I", bytes(4096))``,
                say. As many ports as it has room for are taken, a page (1024 on x86) at most.

        Returns:
            How many ports were written.

        Raises:
            BlockingIOError: nothing is pending.
            RingOverflow: events were dropped; nothing can be read until ``reset``.
            TypeError: the buffer is read-only, or its items are of another kind.
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
            return count  # noqa: TRY300 - nothing may come between
        except BaseException:
            inbox.put_back_page(page)
            raise

    def unmask(self, ports: SupportsIndex | Iterable[SupportsIndex]) -> int:
        """Let ports deliver again; an event that came while one was masked comes now.

        The driver skips, in silence, ports that are already unmasked or not of this handle.

        Args:
            ports: one port or any number of them, as in ``notify_many``.

        Returns:
            How many ports were handed to the driver.
        """
        # One port is what is unmasked most.
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
            timeout: seconds; None waits for ever, 0 not at all.

        Returns:
            select.POLLIN, select.POLLERR after an overflow, or 0 when the time is over.

        Raises:
            ChannelClosed: the handle was closed, before or while this waited.
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
                self._closed_while_it_waited()
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
            timeout: seconds; None waits for ever, 0 not at all.
            unmask: ports to unmask first, those of the last ``wait`` above all; as in ``unmask``.

        Returns:
            The ports, oldest first, each masked now; [] when the time is over.

        Raises:
            RingOverflow: events were dropped; nothing can be read until ``reset``.
            ChannelClosed: the handle was closed, before or while this waited.
            StaleHandle: the handle has become known to be stale, before or while this waited.
        """
        # What is asked for most, in fewer steps.
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
                # One port is what is unmasked most.
                if type(unmask) is list and len(unmask) == 1:
                    port = check_uint32("port", unmask[0])
                else:
                    self._set_done(words, unmask)
            count = self._turn(inbox.descriptor, page.pointer, PAGE_PORTS, nanoseconds, port)
            if count < 0:
                count = self._go_on(page, PAGE_PORTS, count)
            ports = [words[PORTS]] if count == 1 else words[PORTS : PORTS + count].tolist()
            # Nothing can come between these steps and the caller.
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
        """Go through the events as they come: ``for port in channel.events(): ...``.

        The port is masked while the body works and unmasked once the body is done with it, however
        it ends: the next turn, break, an exception, or ``close()`` of this generator. Ports are
        read and unmasked in batches: what a port sends meanwhile comes after the batch, as one
        event. A loop that is left in the middle of a batch loses nothing: the rest comes first to
        whoever reads or waits next, by any method of this handle or of an AsyncEventChannel on it
        (not by select or epoll on its descriptor, which do not know of it). While the loop is
        under way, others may take from its batch too.

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
        return self._events(to_nanoseconds(timeout), on_overflow)

    def reset(self) -> None:
        """Empty the ring, pending events included, and clear an overflow.

        The ports whose events were in it stay masked (driver): ``unmask`` every bound port next,
        or use ``recover``, which does both.
        """
        self._ioctl(Request.RESET)

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

    def _events(  # noqa: C901, PLR0912, PLR0915 - a handler may run at each call
        self,
        nanoseconds: int,
        on_overflow: Callable[[frozenset[int]], object] | None,
        *,
        idle: bool = False,
    ) -> Generator[int, None, None]:
        """Go through the events as they come.

        Args:
            nanoseconds: how long to wait for each batch.
            on_overflow: see ``events``.
            idle: give 0 where nothing comes in time, and do not end.
        """
        inbox, unbound = self._inbox, self._bindings.unbound
        page = inbox.page()
        words, pointer = page.words, page.pointer
        batch, count = None, 0
        # How many of the page's ports the body has had.
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
                            count = self._go_on(page, PAGE_PORTS, count)
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
                    count = _leave_out(words, count, unbound)
                    if not count:
                        continue
                if count == 1:
                    words[UNREAD] = 0
                    done = 1
                    yield words[PORTS]
                else:
                    batch = zip(  # noqa: B905 - of one length
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
                    del inbox.batches[batch]  # nothing is left of it
                if inbox.left or inbox.batches:
                    os.eventfd_write(inbox.descriptor, 1)

    def _set_done(self, words: memoryview, ports: SupportsIndex | Iterable[SupportsIndex]) -> None:
        """Put ports that are to be unmasked into a page's words."""
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
        """Take what is there, as ``wait`` does, the inbox's first."""
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
        """Unmask ports, and bring what the driver has into the inbox; return how much that is."""
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
        """Make a turn with a page, in which what is in the inbox comes first."""
        if page.words[DONE]:
            count = self._turn(-1, page.pointer, 0, 0, 0)
            if count < 0:
                self._fail_turn(page, most, count)
        else:
            self._check_usable()
        watcher = self._inbox.watcher
        if watcher is not None and self._inbox.reserved and self._pull(NO_PORTS):
            # What a task waits for is not for others.
            watcher.events_came()
        count = self._inbox.fill(page, most) if self._inbox.holds_events() else 0
        if count or (self._inbox.reserved and not nanoseconds):
            return count
        count = self._turn(self._inbox.descriptor, page.pointer, most, nanoseconds, 0)
        return count if count >= 0 else self._go_on(page, most, count)

    def _go_on(self, page: Page, most: int, count: int) -> int:
        """Go on after a turn that has brought no port, until there is one or the time is over."""
        while count < 0:
            if self.closed:
                self._closed_while_it_waited()
            if count not in {-errno.EAGAIN, -errno.EINTR}:
                self._fail_turn(page, most, count)
            count = self._inbox.fill(page, most)
            if not count:
                left = page.times[0]
                count = self._turn(self._inbox.descriptor, page.pointer, most, left, 0)
        return count

    def _fail_turn(self, page: Page, most: int, result: int) -> NoReturn:
        done = page.words[DONE]
        self._fail("write" if done else "read", (PORT_BYTES * (done or most),), -result)


def _leave_out(words: memoryview, count: int, unbound: Mapping[int, None]) -> int:
    """Leave ports out of those in a page; return how many are left."""
    ports = [port for port in words[PORTS : PORTS + count].tolist() if port not in unbound]
    words[PORTS : PORTS + len(ports)] = memoryview(pack_ports(ports)).cast("I")
    words[UNREAD] = len(ports)
    return len(ports)

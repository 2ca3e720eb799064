"""Events that were read from the driver and not delivered yet, with a descriptor to wait on."""

import os
import threading
from array import array
from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import filterfalse, islice
from typing import Any, Protocol

from .bindings import Binding
from .descriptors import Descriptor
from .device import PORTS, UNREAD, Page


class Watcher(Protocol):
    """The event loop that watches a handle."""

    def stop_if_idle(self) -> bool:
        """Stop watching if no task waits; return whether it stopped."""

    def events_came(self) -> None:
        """React to events that other readers put into the inbox; called in any thread."""

    def port_unbound(self, port: int, binding: Binding | None) -> None:
        """React to the end of a port's binding; called in any thread."""


class Inbox:
    """The events that were read and not delivered, in order, for any number of readers.

    Its descriptor is readable while it has events that are neither reserved for a task nor in the
    batch of a running loop, and when it is closed. A wait for events waits on it and on the device.

    Threads: any thread, and a signal handler, may call any method at any time.

    Attributes:
        left: the ports, in order; the values are unused. Others may read it, but not change it.
        batches: what loops, running or left, have not yielded yet: iterators of ports, each with
            its place in its batch. Any reader may take from them.
        pages: under "spare", an empty page that is not in use, if there is one.
        descriptor: the number of the descriptor, an eventfd.
        watcher: the event loop that watches the handle, if any.
        reserved: the ports whose events are for tasks that wait for them.
        closed: whether the handle is closed.
    """

    def __init__(self, new_page: Callable[[], Page]) -> None:
        """Make an empty inbox.

        Args:
            new_page: creates a page.

        Raises:
            OSError: EMFILE.
        """
        self.left: dict[int, int] = {}
        self.batches: dict[Iterator[tuple[int, int]], None] = {}
        self.watcher: Watcher | None = None
        self.reserved: Mapping[Any, object] = {}
        self.closed: bool = False
        self._new_page = new_page
        self.pages: dict[str, Page] = {}
        self._lock = threading.RLock()
        self._eventfd = Descriptor(os.eventfd, 0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self.descriptor: int = self._eventfd.number

    def page(self) -> Page:
        """Return an empty page for one call, which puts it back into ``pages``."""
        return self.pages.pop("spare", None) or self._new_page()

    def put_back_page(self, page: Page) -> None:
        """Put back the ports that were read into a page and not delivered."""
        count = page.words[UNREAD]
        if count:
            self.put_back(page.words[PORTS : PORTS + count].tolist())

    def put_back(self, ports: Iterable[int]) -> None:
        """Put back ports that were taken and not delivered, before all others."""
        with self._lock:
            self.left = dict.fromkeys(ports, 0) | self.left
            self.signal()

    def add(self, ports: Iterable[int]) -> None:
        """Add ports that were read, after all others; the caller wakes those who wait for them."""
        with self._lock:
            self.left |= dict.fromkeys(ports, 0)

    def take(self, most: int) -> list[int]:
        """Take the oldest ports that are not reserved, at most ``most``."""
        ports: list[int] = []
        try:
            with self._lock:
                self._gather()
                free = filterfalse(self.reserved.__contains__, self.left)
                ports = [*islice(free, most)]
                taken = frozenset(ports).__contains__
                self.left = dict.fromkeys(filterfalse(taken, self.left), 0)
                if self.has_free():
                    self.signal()
            return ports  # noqa: TRY300 - a handler may raise at the end of the with
        except BaseException:
            self.put_back(ports)
            raise

    def take_port(self, port: int) -> bool:
        """Take one port, out of order; return whether it was there."""
        taken: list[int] = []
        try:
            with self._lock:
                self._collect()
                if port in self.left:
                    taken = [port]
                    del self.left[port]
            return taken != []  # noqa: TRY300
        except BaseException:
            self.put_back(taken)
            raise

    def fill(self, page: Page, most: int) -> int:
        """Take ports into a page, as a turn of the device does; return how many."""
        ports = self.take(most)
        try:
            page.words[PORTS : PORTS + len(ports)] = array("I", ports)
            page.words[UNREAD] = len(ports)
        except BaseException:
            self.put_back(ports)
            raise
        return len(ports)

    def holds_events(self) -> bool:
        """Return whether there are events, reserved or not."""
        return bool(self.left or self.batches)

    def peek(self) -> bool:
        """Return whether there are events that are not reserved."""
        try:
            with self._lock:
                self._gather()
                free = self.has_free()
                if free:
                    self.signal()
            return free  # noqa: TRY300
        except BaseException:
            self.signal()
            raise

    def has_free(self) -> bool:
        """Return whether ``left`` has events that are not reserved."""
        return not self.left.keys() <= self.reserved.keys()

    def collect(self) -> None:
        """Move the events of all batches into ``left``."""
        with self._lock:
            self._collect()

    def signal(self) -> None:
        """Make the descriptor readable: wake those who wait on it."""
        os.eventfd_write(self.descriptor, 1)

    def close(self) -> None:
        """Make the descriptor readable permanently."""
        self.closed = True
        self.signal()

    def _gather(self) -> None:
        """Clear the descriptor, and move the events of all batches into ``left``."""
        # The descriptor first: events that come later make it readable again.
        try:
            os.eventfd_read(self.descriptor)
        except BlockingIOError:
            pass
        finally:
            if self.closed:
                os.eventfd_write(self.descriptor, 1)
        self._collect()

    def _collect(self) -> None:
        for batch in [*self.batches]:
            self.left.update(batch)
            self.batches.pop(batch, None)

"""Events that were read from the driver and not given out yet, and the descriptor that tells."""

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
    """An event loop's part in a handle."""

    def let_go(self) -> bool:
        """Stop watching if nobody waits; return whether this did."""

    def events_came(self) -> None:
        """Hear that others have brought events into the inbox, in whatever thread."""

    def port_unbound(self, port: int, binding: Binding | None) -> None:
        """Hear that a binding of a port is gone, in whatever thread."""


class Inbox:
    """The events that were read and not given out, in order, for any number of readers.

    Its descriptor can be read while there is something in it that is nobody's, neither reserved for
    a task nor with a loop under way, and once it is closed: whoever waits for events waits on it as
    well as on the device.

    Threads: any thread, and a signal handler, may call anything at any time.

    Attributes:
        left: the ports; the values say nothing. To be read by others, never changed.
        batches: what loops that are under way, or were left, have still to give out: iterators of
            ports, each with its place in its batch. Everybody may take from them.
        pages: under "spare", a page that nobody uses and in which nothing is.
        descriptor: the number of the descriptor, an eventfd.
        watcher: who watches for an event loop, if anybody does.
        reserved: ports whose events are for tasks that wait for them.
        closed: whether the handle is closed.
    """

    def __init__(self, new_page: Callable[[], Page]) -> None:
        """Make an empty inbox.

        Args:
            new_page: makes pages for ``page``.

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
        """Lend a page in which nothing is, for one call; it goes back to ``pages``."""
        return self.pages.pop("spare", None) or self._new_page()

    def put_back_page(self, page: Page) -> None:
        """Put back what was read into a page and not given out."""
        count = page.words[UNREAD]
        if count:
            self.put_back(page.words[PORTS : PORTS + count].tolist())

    def put_back(self, ports: Iterable[int]) -> None:
        """Put ports first that were taken and did not come to whoever took them."""
        with self._lock:
            self.left = dict.fromkeys(ports, 0) | self.left
            self.signal()

    def add(self, ports: Iterable[int]) -> None:
        """Put ports last that were read; whoever does it wakes those whom they concern."""
        with self._lock:
            self.left |= dict.fromkeys(ports, 0)

    def take(self, most: int) -> list[int]:
        """Take the oldest ports that are not reserved, at most so many."""
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
        """Take one port out of the order; return whether it was there."""
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
        """Take ports into a page, as a turn of the device reads them; return how many."""
        ports = self.take(most)
        try:
            page.words[PORTS : PORTS + len(ports)] = array("I", ports)
            page.words[UNREAD] = len(ports)
        except BaseException:
            self.put_back(ports)
            raise
        return len(ports)

    def holds_events(self) -> bool:
        """Return whether there is something, reserved or not."""
        return bool(self.left or self.batches)

    def peek(self) -> bool:
        """Return whether there is something that is not reserved."""
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
        """Return whether something in ``left`` is not reserved."""
        return not self.left.keys() <= self.reserved.keys()

    def collect(self) -> None:
        """Bring everything into ``left``."""
        with self._lock:
            self._collect()

    def signal(self) -> None:
        """Wake whoever waits on the descriptor."""
        os.eventfd_write(self.descriptor, 1)

    def close(self) -> None:
        """Wake whoever waits, for good."""
        self.closed = True
        self.signal()

    def _gather(self) -> None:
        """Bring everything into ``left``, of which the descriptor then tells nothing."""
        # First the descriptor: what comes after that tells anew.
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

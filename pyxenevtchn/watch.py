"""How an event loop watches a handle, and the tasks that wait meanwhile."""

import asyncio
import threading
from collections.abc import Callable

from .errors import ChannelClosed
from .handle import Handle


class Watch:
    """Has an event loop watch a handle, for as long as somebody waits.

    The handle is borrowed meanwhile: closing it ends the watch first, so that no loop keeps a
    descriptor number that somebody else may get. A watch outlives its last waiter until the next
    event, since most wait again at once; one that is cancelled ends it.
    """

    def __init__(self, handle: Handle, on_readable: Callable[[], None]) -> None:
        """Prepare to watch a handle.

        Args:
            handle: the handle.
            on_readable: called in the loop when there is something to read; what it raises goes to
                everybody who waits.
        """
        self._handle = handle
        self._on_readable = on_readable
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread = 0
        self._fd = -1
        # By port; None is the consumer of all events.
        self._waiters: dict[int | None, set[asyncio.Future[None]]] = {}

    def is_free(self, port: int | None) -> bool:
        """Tell whether nobody waits with whom waiting for the port does not go together."""
        return not self._waiters if port is None else not self.has_consumer

    @property
    def has_consumer(self) -> bool:
        """Whether the consumer of all events waits."""
        return None in self._waiters

    async def wait(self, port: int | None) -> None:
        """Wait until ``wake`` or ``fail`` is called for the port."""
        if not self.is_free(port):
            raise RuntimeError(
                "somebody else waits on this handle: events() and read() have one consumer, and"
                " do not go together with wait()"
            )
        self._start(asyncio.get_running_loop())
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiters.setdefault(port, set()).add(future)
        try:
            await future
        except BaseException:
            waiters = self._waiters.get(port, set())
            waiters.discard(future)
            if not waiters:
                self._waiters.pop(port, None)
            if not self._waiters:
                self._stop()
            raise

    def wake(self, port: int | None) -> None:
        """Have those who wait for the port go on."""
        for future in self._waiters.pop(port, ()):
            if not future.done():
                future.set_result(None)

    def fail(self, error: Exception, port: int | None) -> None:
        """Raise the error in those who wait for the port."""
        for future in self._waiters.pop(port, ()):
            if not future.done():
                future.set_exception(error)

    def renew(self) -> None:
        """Watch on after an error on the descriptor: libuv, and so uvloop, stops at one."""
        if self._loop is not None:
            self._loop.remove_reader(self._fd)
            self._loop.add_reader(self._fd, self._readable)

    def _fail_all(self, error: Exception) -> None:
        for port in list(self._waiters):
            self.fail(error, port)

    def let_go(self) -> bool:
        """Stop watching if nobody waits (see handle.Watcher)."""
        if self._loop is not None and not self._loop.is_closed():
            elsewhere = self._loop.is_running() and self._thread != threading.get_ident()
            if self._waiters or elsewhere:
                return False
        self._stop()
        return True

    def closing(self) -> None:
        """Stop watching: the handle is being closed (see handle.Watcher)."""
        loop = self._loop
        if loop is None or loop.is_closed() or self._thread == threading.get_ident():
            self._end()
        else:
            loop.call_soon_threadsafe(self._end)

    def _start(self, loop: asyncio.AbstractEventLoop) -> None:
        if self._loop is loop:
            return
        watcher = self._handle.watcher
        if watcher is not None and not watcher.let_go():
            raise RuntimeError("another event loop or AsyncEventChannel waits on this handle")
        device = self._handle.__enter__()
        try:
            loop.add_reader(device.fileno(), self._readable)
        except BaseException:
            self._handle.__exit__(None, None, None)
            raise
        self._loop, self._thread, self._fd = loop, threading.get_ident(), device.fileno()
        self._handle.watcher = self

    def _stop(self) -> None:
        if self._loop is not None:
            if not self._loop.is_closed():
                self._loop.remove_reader(self._fd)
            self._loop = None
            self._handle.watcher = None
            self._handle.__exit__(None, None, None)

    def _readable(self) -> None:
        if not self._waiters:
            self._stop()
            return
        try:
            self._on_readable()
        except Exception as error:  # noqa: BLE001 - whatever it is, it is the waiters'
            self._fail_all(error)

    def _end(self) -> None:
        self._fail_all(ChannelClosed(f"{self._handle.device.name}: the handle was closed"))
        self._stop()

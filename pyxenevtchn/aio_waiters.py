"""How an event loop watches a handle: which tasks wait, and which of them an event wakes."""

import asyncio
import os
import select
import threading
from collections.abc import Callable, Iterable
from typing import Any

from .compiled import ffi, lib
from .descriptors import Descriptor
from .errors import ChannelClosed, RingOverflow, StaleHandle
from .handle import COUNT, Batch
from .receiver import Receiver

# How many times in a row pending events may be taken before other tasks get to run.
TURNS = 100

_Future = asyncio.Future[None]


class Watch:
    """Lets an event loop watch a handle while tasks wait.

    It stores no events: they stay in the core, reserved for the tasks that wait for their ports,
    until such a task runs and takes its own.

    The loop watches an epoll descriptor of this object, with two in it: the driver's, and an
    eventfd by which the core tells of all else. It watches until the first event that no task waits
    for, not until the last wait ends, because most tasks wait again at once.

    Attributes:
        turns: how often pending events may still be taken before other tasks get to run.
        waiters: by port, the tasks that wait for it, and how often it had been unbound. The key
            None is the one consumer.
    """

    def __init__(self, channel: Receiver, pull: Callable[[], int]) -> None:
        """Prepare to watch a handle.

        Args:
            channel: the handle.
            pull: reads the driver's events into the core and returns how many; an error that it
                raises goes to all waiters.
        """
        self.turns: int = TURNS
        self.waiters: dict[int | None, dict[_Future, int]] = {}
        self._channel = channel
        self._handle: Any = channel._handle  # noqa: SLF001 - the asynchronous half of it
        self._pull = pull
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread = 0
        self._epoll: select.epoll | None = None
        self._eventfd: Descriptor | None = None

    @property
    def is_stranded(self) -> bool:
        """Whether the loop was closed while tasks waited."""
        return self._loop is not None and self._loop.is_closed()

    async def sleep(self, port: int | None, stamp: int = -1) -> None:
        """Wait in the event loop until an event of the port is in the core, and take it.

        Args:
            port: the port; None means any port, whose event is not taken.
            stamp: which binding the port had at the time of the call; -1 if that is not known.

        Raises:
            ChannelClosed: the port was unbound.
        """
        self.turns = TURNS
        loop = asyncio.get_running_loop()
        self._start(loop)
        future: _Future = loop.create_future()
        waiters = self.waiters
        waiting = waiters.get(port) or {}
        batch = Batch()
        reserved = False
        try:
            try:
                if port is not None:
                    reserved = True
                    waiting[future] = lib.handle_reserve(self._handle, port, True)
                else:
                    waiting[future] = 0
                waiters[port] = waiting
                if port is not None and lib.handle_stamp(self._handle, port) != stamp:
                    raise _unbound(port)
                await future
                # Take it while it is reserved: another thread may take events that are not.
                if port is not None:
                    lib.handle_take_port(self._handle, batch.pointer, port)
            finally:
                if future in waiting:
                    del waiting[future]
                if not waiting and port in waiters:
                    del waiters[port]
                if reserved and port is not None:
                    # The only call: no signal handler can run before it.
                    lib.handle_reserve(self._handle, port, False)
            batch.words[COUNT] = 0
        except BaseException:
            lib.handle_put_back(self._handle, batch.pointer)
            if not waiters:
                # The loop may be about to end.
                self._stop()
            raise

    def dispatch(self) -> None:
        """Wake those who get the events in the core: tasks, or the consumer."""
        if self.is_stranded:
            self.stop_if_idle()
        for port in queued(self._handle):
            if port in self.waiters:
                _wake(self.waiters[port])
        if None in self.waiters and lib.handle_has_free(self._handle):
            _wake(self.waiters[None])

    def stop_if_idle(self) -> bool:
        """Stop watching if no task waits; return whether it stopped."""
        loop = self._loop
        if self.is_stranded:
            for port, waiting in self.waiters.items():
                for _ in waiting:
                    if port is not None:
                        lib.handle_reserve(self._handle, port, False)
            self.waiters = {}
        elif self.waiters or (
            loop is not None and loop.is_running() and self._thread != threading.get_ident()
        ):
            return False
        self._stop()
        return True

    def _fail_unbound(self) -> None:
        """Wake those whose port has been unbound since they began to wait."""
        for port, waiting in self.waiters.items():
            if port is not None:
                unbinds = lib.handle_unbinds(self._handle, port)
                ended = [future for future, before in waiting.items() if before != unbinds]
                _fail(ended, _unbound(port))

    def _start(self, loop: asyncio.AbstractEventLoop) -> None:
        if self._loop is loop:
            return
        watcher = self._channel._watcher  # noqa: SLF001 - as above
        if watcher is not None and not watcher.stop_if_idle():
            raise RuntimeError("another event loop or AsyncEventChannel waits on this handle")
        fd = self._channel.fileno()  # raises if the handle is closed
        if self._epoll is None or self._eventfd is None:
            eventfd = Descriptor.eventfd()
            epoll = select.epoll()
            epoll.register(fd, select.EPOLLIN)
            epoll.register(eventfd.number, select.EPOLLIN)
            self._epoll, self._eventfd = epoll, eventfd
        self._thread = threading.get_ident()
        try:
            self._loop, self._channel._watcher = loop, self  # noqa: SLF001
            lib.handle_watch(self._handle, self._eventfd.number)
            loop.add_reader(self._epoll.fileno(), self._readable)
        except BaseException:
            self._stop()
            raise

    def _stop(self) -> None:
        lib.handle_watch(self._handle, -1)
        if self._loop is not None and self._epoll is not None and not self._loop.is_closed():
            self._loop.remove_reader(self._epoll.fileno())
        self._loop = None
        if self._channel._watcher is self:  # noqa: SLF001
            self._channel._watcher = None  # noqa: SLF001

    def _readable(self) -> None:
        """Read the driver's events into the core and wake the waiters; the loop calls this."""
        if not self.waiters or self._eventfd is None:
            self._stop()
            return
        try:
            _clear(self._eventfd.number)
            try:
                self._pull()
            except Exception as error:
                waiting = [future for futures in self.waiters.values() for future in futures]
                if _fail(waiting, error):
                    return
                # No waiter is left to get the error.
                self._stop()
                if isinstance(error, ChannelClosed | RingOverflow | StaleHandle):
                    return
                raise
            self._fail_unbound()
            self.dispatch()
        except BaseException:
            # From a signal handler: have the loop call this again.
            os.eventfd_write(self._eventfd.number, 1)
            raise


def queued(handle: Any) -> list[int]:  # noqa: ANN401
    """Return the ports whose events are in the core."""
    room, count = 0, lib.handle_queued(handle, ffi.NULL, 0)
    ports = ffi.NULL
    while count > room:
        room = count + 64
        ports = ffi.new("uint32_t[]", room)
        count = lib.handle_queued(handle, ports, room)
    return list(ports[0:count]) if room else []


def _clear(eventfd: int) -> None:
    try:
        os.eventfd_read(eventfd)
    except BlockingIOError:
        return


def _unbound(port: int | None) -> ChannelClosed:
    return ChannelClosed(f"port {port} was unbound")


def _wake(futures: Iterable[_Future]) -> None:
    for future in futures:
        if not future.done():
            future.set_result(None)


def _fail(futures: Iterable[_Future], error: Exception) -> bool:
    """Raise an error in those who wait; return whether there is a waiter."""
    pending = [future for future in futures if not future.done()]
    for future in pending:
        future.set_exception(error)
    return bool(pending)

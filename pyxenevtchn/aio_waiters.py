"""How an event loop watches a handle: which tasks wait, and which of them an event wakes."""

import asyncio
import select
import threading
from collections.abc import Callable, Iterable, Mapping

from .bindings import Binding
from .errors import ChannelClosed, RingOverflow, StaleHandle
from .inbox import Inbox

# How many times in a row pending events may be taken before other tasks get to run.
TURNS = 100

_Future = asyncio.Future[None]


class Watch:
    """Lets an event loop watch a handle while tasks wait.

    It stores no events: they stay in the inbox, reserved for the tasks that wait for their ports,
    until such a task runs and takes its own.

    The loop watches an epoll descriptor of this object, not the descriptor of the device, which
    ``close`` replaces. It watches until the first event that no task waits for, not until the last
    wait ends, because most tasks wait again at once.

    Attributes:
        turns: how often pending events may still be taken before other tasks get to run.
        waiters: by port, the tasks that wait for it, and for which binding of the port. The key
            None is the one consumer.
    """

    def __init__(
        self,
        inbox: Inbox,
        bindings: Mapping[int, Binding],
        fileno: Callable[[], int],
        pull: Callable[[], int],
    ) -> None:
        """Prepare to watch a handle.

        Args:
            inbox: the inbox of the handle.
            bindings: the bindings of the handle.
            fileno: returns the handle's descriptor.
            pull: reads the driver's events into the inbox and returns how many; an error that it
                raises goes to all waiters.
        """
        self.turns: int = TURNS
        self.waiters: dict[int | None, dict[_Future, Binding | None]] = {}
        self._inbox = inbox
        self._bindings = bindings
        self._fileno = fileno
        self._pull = pull
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread = 0
        self._epoll: select.epoll | None = None

    @property
    def is_stranded(self) -> bool:
        """Whether the loop was closed while tasks waited."""
        return self._loop is not None and self._loop.is_closed()

    async def sleep(self, port: int | None, binding: Binding | None = None) -> None:
        """Wait in the event loop until an event of the port is in the inbox, and take it.

        Args:
            port: the port; None means any port, whose event is not taken.
            binding: the binding that the port had at the time of the call.

        Raises:
            ChannelClosed: the port was unbound.
        """
        self.turns = TURNS
        loop = asyncio.get_running_loop()
        self._start(loop)
        future: _Future = loop.create_future()
        waiters = self.waiters
        waiting = waiters.get(port) or {}
        taken: list[int] = []
        try:
            try:
                waiting[future] = binding
                waiters[port] = waiting
                if port is not None and self._bindings.get(port) is not binding:
                    raise _unbound(port)
                await future
                # Take it while it is reserved: another thread may take events that are not.
                if port is not None and self._inbox.take_port(port):
                    taken = [port]
            finally:
                # No signal handler can interrupt this.
                if future in waiting:
                    del waiting[future]
                if not waiting and port in waiters:
                    del waiters[port]
        except BaseException:
            # This also signals: there may be an event that is no longer reserved.
            self._inbox.put_back(taken)
            if not waiters:
                # The loop may be about to end.
                self._stop()
            raise

    def dispatch(self, *, new: bool) -> None:
        """Wake those who get the events in the inbox: tasks, the consumer, or else other threads.

        Args:
            new: whether the inbox has events of which other threads have not been told.
        """
        if self.is_stranded:
            self.stop_if_idle()
        left = self._inbox.left
        for port in [port for port in left if port in self.waiters]:
            _wake(self.waiters[port])
        if self._inbox.has_free():
            if None in self.waiters:
                _wake(self.waiters[None])
            elif new:
                self._inbox.signal()

    def stop_if_idle(self) -> bool:
        """Stop watching if no task waits (see inbox.Watcher)."""
        loop = self._loop
        if self.is_stranded:
            self.waiters.clear()
            self._inbox.peek()
        elif self.waiters or (
            loop is not None and loop.is_running() and self._thread != threading.get_ident()
        ):
            return False
        self._stop()
        return True

    def port_unbound(self, port: int, binding: Binding | None) -> None:
        """Wake those who wait for a binding of a port that has ended (see inbox.Watcher)."""
        self._run(lambda: self._fail_port(port, binding))

    def events_came(self) -> None:
        """Wake those who get events that other readers have read (see inbox.Watcher)."""
        self._run(lambda: self.dispatch(new=False))

    def _run(self, call: Callable[[], None]) -> None:
        """Run a call in the event loop's thread."""
        loop = self._loop
        if loop is None or self.is_stranded:
            return
        if self._thread == threading.get_ident():
            call()
            return
        try:
            loop.call_soon_threadsafe(call)
        except RuntimeError:
            return  # the loop has just been closed

    def _fail_port(self, port: int, binding: Binding | None) -> None:
        waiting = self.waiters.get(port, {})
        _fail([future for future, bound in waiting.items() if bound is binding], _unbound(port))

    def _start(self, loop: asyncio.AbstractEventLoop) -> None:
        if self._loop is loop:
            return
        watcher = self._inbox.watcher
        if watcher is not None and not watcher.stop_if_idle():
            raise RuntimeError("another event loop or AsyncEventChannel waits on this handle")
        if self._epoll is None:
            epoll = select.epoll()
            epoll.register(self._fileno(), select.EPOLLIN)
            # Edge-triggered: it may stay readable for other threads after it was reported here.
            epoll.register(self._inbox.descriptor, select.EPOLLIN | select.EPOLLET)
            self._epoll = epoll
        self._fileno()  # raises if the handle is closed
        self._thread = threading.get_ident()
        try:
            self._loop, self._inbox.watcher, self._inbox.reserved = loop, self, self.waiters
            loop.add_reader(self._epoll.fileno(), self._readable)
        except BaseException:
            self._stop()
            raise

    def _stop(self) -> None:
        if self._loop is not None and self._epoll is not None and not self._loop.is_closed():
            self._loop.remove_reader(self._epoll.fileno())
        self._loop = self._inbox.watcher = None
        self._inbox.reserved = {}

    def _readable(self) -> None:
        """Read the driver's events into the inbox and wake the waiters; the loop calls this."""
        if not self.waiters or self._epoll is None:
            self._stop()
            return
        try:
            self._epoll.poll(0)
            try:
                new = self._pull()
            except Exception as error:
                waiting = [future for futures in self.waiters.values() for future in futures]
                if _fail(waiting, error):
                    return
                # No waiter is left to get the error.
                self._stop()
                if isinstance(error, ChannelClosed | RingOverflow | StaleHandle):
                    return
                raise
            self._inbox.collect()
            self.dispatch(new=new > 0)
        except BaseException:
            # From a signal handler: have the loop call this again.
            self._inbox.signal()
            raise


def _unbound(port: int) -> ChannelClosed:
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

"""AsyncEventChannel: the events of an EventChannel, waited for in asyncio."""

from collections.abc import AsyncIterator, Callable, Iterable
from types import TracebackType
from typing import Self, SupportsIndex

from .abi import check_uint32
from .channel import EventChannel
from .errors import ChannelClosed, RingOverflow
from .watch import Watch

# How often in a row events that are there already may be taken without a turn for other tasks.
_TURNS = 100


class AsyncEventChannel:
    """An EventChannel whose events are waited for in asyncio.

    There are two ways to wait, one at a time: ``events`` and ``read`` take whatever comes and have
    a single consumer; ``wait`` and ``port_events`` look at one port each, in any number of tasks.
    Meanwhile nobody else may read from the handle. What does not wait is done as on the handle
    itself, ``channel``, and may be done there too.

    A task that is cancelled while it waits loses no event: what was read stays with the handle.

    Threads: it belongs to the event loop that waits on it, and to that loop's thread; ``channel``
    may be used, and closed, from any thread. Closing either wakes every waiter with ChannelClosed.
    """

    def __init__(
        self,
        channel: EventChannel,
        *,
        on_overflow: Callable[[frozenset[int]], object] | None = None,
    ) -> None:
        """Take over a handle.

        Args:
            channel: the handle; closing this closes it.
            on_overflow: called with the result of ``channel.recover()`` when the ring has
                overflowed, and the waiting goes on; None raises RingOverflow in every waiter.
        """
        self.channel = channel
        self._on_overflow = on_overflow
        self._inbox = channel._inbox
        self._watch = Watch(channel._handle, self._read_ring)
        self._turns = _TURNS
        # How many events of each port came, and how many of those a wait has returned for.
        self._came: dict[int, int] = {}
        self._taken: dict[int, int] = {}
        # Ports that a wait has returned: masked until it is called again.
        self._in_hand: set[int] = set()

    @property
    def closed(self) -> bool:
        """Whether the handle is closed."""
        return self.channel.closed

    def close(self) -> None:
        """Close the handle and unbind its ports; waiters get ChannelClosed."""
        self.channel.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<{type(self).__name__} of {self.channel!r}>"

    def bind_virq(self, virq: int) -> int:
        """As EventChannel.bind_virq."""
        return self.channel.bind_virq(virq)

    def bind_interdomain(
        self, remote_domain: SupportsIndex, remote_port: SupportsIndex, *, drain: bool = False
    ) -> int:
        """As EventChannel.bind_interdomain."""
        return self.channel.bind_interdomain(remote_domain, remote_port, drain=drain)

    def bind_unbound_port(self, remote_domain: SupportsIndex) -> int:
        """As EventChannel.bind_unbound_port."""
        return self.channel.bind_unbound_port(remote_domain)

    def bind_static(self, port: SupportsIndex) -> None:
        """As EventChannel.bind_static, dangers included."""
        self.channel.bind_static(port)

    def unbind(self, port: SupportsIndex) -> None:
        """As EventChannel.unbind; tasks that wait for the port get ChannelClosed."""
        self.channel.unbind(port)
        number = check_uint32("port", port)
        for counts in (self._came, self._taken):
            counts.pop(number, None)
        self._in_hand.discard(number)
        self._watch.fail(ChannelClosed(f"port {number} was unbound"), number)

    def notify(self, port: SupportsIndex) -> None:
        """As EventChannel.notify."""
        self.channel.notify(port)

    def notify_many(self, ports: Iterable[SupportsIndex]) -> int:
        """As EventChannel.notify_many."""
        return self.channel.notify_many(ports)

    def unmask(self, ports: SupportsIndex | Iterable[SupportsIndex]) -> int:
        """As EventChannel.unmask."""
        return self.channel.unmask(ports)

    async def read(self) -> list[int]:
        """Wait for events and take them: the ports, oldest first, each masked now.

        Raises:
            RingOverflow: events were dropped, and there is no ``on_overflow``.
            ChannelClosed: the handle was closed, before or while this waited.
            RuntimeError: somebody else waits on the handle.
        """
        if self._came:
            self._reclaim()
        if not self._inbox.backlog and (ports := self._take_now(None)):
            return ports
        while not self._inbox.backlog:
            await self._wait(None)
        return self.channel.wait(0)

    def events(self) -> AsyncIterator[int]:
        """Go through the events as they come: ``async for port in channel.events(): ...``.

        As EventChannel.events: the port is masked while the body works and unmasked once it is
        done, in batches; a loop that is left or cancelled in the middle of a batch loses nothing.

        Raises:
            RingOverflow: events were dropped, and there is no ``on_overflow``.
            ChannelClosed: the handle was closed, before or during the loop.
            RuntimeError: somebody else waits on the handle.
        """
        self._reclaim()
        return _Events(self)

    async def wait(self, port: SupportsIndex) -> None:
        """Wait for an event of one port; one that came since the last wait returns at once.

        However many came since then, they are one, as in the hardware. The port stays masked until
        it is waited for again (or unmasked): so what its task does between two waits is done
        before the next event. All tasks that wait for the port at the time of an event get it.

        Raises:
            RingOverflow: events were dropped, and there is no ``on_overflow``.
            ChannelClosed: the handle was closed or the port unbound, before or while this waited.
            RuntimeError: a consumer of all events waits on the handle.
        """
        number = check_uint32("port", port)
        self._put_back(number)
        taken = self._taken.get(number, 0)
        self._dispatch()
        while self._came.get(number, 0) <= taken:
            if ports := self._take_now(number):
                self._inbox.backlog.extend(ports)
                self._dispatch()
            else:
                await self._wait(number)
        self._taken[number] = self._came[number]
        self._in_hand.add(number)

    def port_events(self, port: SupportsIndex) -> AsyncIterator[int]:
        """Go through the events of one port: ``wait`` as an asynchronous iterator of the port."""
        return _PortEvents(self, check_uint32("port", port))

    async def _wait(self, port: int | None) -> None:
        """Wait in the event loop, and let other tasks have their turns."""
        self._turns = _TURNS
        await self._watch.wait(port)

    def _take_now(self, port: int | None) -> list[int]:
        """Take what is there, for whom waits for the port, without going through the event loop.

        Where events come faster than they are handled, the loop has its turn all the same.
        """
        if not self._turns or not self._watch.is_free(port):
            return []
        self._turns -= 1
        try:
            return self.channel.wait(0)
        except RingOverflow:
            if self._on_overflow is None:
                raise
            self._recover(self._on_overflow)
        return []

    def _read_ring(self) -> None:
        """Take what the ring has and wake those whom it concerns."""
        try:
            self._inbox.backlog.extend(self.channel.wait(0))
        except RingOverflow:
            if self._on_overflow is None:
                raise
            self._recover(self._on_overflow)
        if self._watch.has_consumer:
            if self._inbox.backlog:
                self._watch.wake(None)
        else:
            self._dispatch()

    def _recover(self, on_overflow: Callable[[frozenset[int]], object]) -> None:
        on_overflow(self.channel.recover())
        self._watch.renew()

    def _dispatch(self) -> None:
        """Count the backlog's events for their ports."""
        while (port := self._next()) is not None:
            self._came[port] = self._came.get(port, 0) + 1
            self._watch.wake(port)

    def _next(self) -> int | None:
        """Take the oldest port of the backlog that is still bound."""
        while (port := self._inbox.pop_backlog()) is not None:
            if not self.channel._bindings.is_stale(port):
                break
        return port

    def _reclaim(self) -> None:
        """Put events that no wait has returned for back, for the consumer of all."""
        for port, came in self._came.items():
            if came > self._taken.get(port, 0):
                self._taken[port] = came
                self._inbox.backlog.append(port)

    def _put_back(self, port: int) -> None:
        """Unmask a port that a wait returned: its task is done with it."""
        if port in self._in_hand:
            self._in_hand.discard(port)
            self.channel.unmask(port)


class _Events(AsyncIterator[int]):
    """A loop over all events. Its ports are unmasked when the batch is done, or the loop is gone.

    An object and not an asynchronous generator, because nobody finalises those at a ``break``.
    """

    def __init__(self, owner: AsyncEventChannel) -> None:
        self._owner = owner
        self._backlog = owner._inbox.backlog
        self._unbound = owner.channel._bindings.unbound
        self._done: list[int] = []

    async def __anext__(self) -> int:
        while True:
            if not self._backlog:
                await self._refill()
            port = self._backlog.popleft()
            if port not in self._unbound or not self._owner.channel._bindings.is_stale(port):
                self._done.append(port)
                return port

    async def _refill(self) -> None:
        done, self._done = self._done, []
        self._owner.channel.unmask(done)
        self._backlog.extend(self._owner._take_now(None))
        while not self._backlog:
            await self._owner._wait(None)

    def __del__(self) -> None:
        self._owner.channel._unmask_left(self._done)


class _PortEvents(AsyncIterator[int]):
    """A loop over one port's events."""

    def __init__(self, owner: AsyncEventChannel, port: int) -> None:
        self._owner = owner
        self._port = port

    async def __anext__(self) -> int:
        await self._owner.wait(self._port)
        return self._port

    def __del__(self) -> None:
        if self._port in self._owner._in_hand:
            self._owner._in_hand.discard(self._port)
            self._owner.channel._unmask_left([self._port])

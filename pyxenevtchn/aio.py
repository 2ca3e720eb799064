"""AsyncEventChannel: wait for the events of an EventChannel in asyncio."""

import asyncio
import errno
import inspect
import weakref
from collections.abc import AsyncIterator, Callable, Generator, Iterable
from types import GeneratorType, TracebackType
from typing import NoReturn, Self, SupportsIndex, cast

from .abi import check_uint32, pack_ports
from .aio_waiters import TURNS, Watch
from .channel import EventChannel
from .compiled import ffi, lib
from .errors import RingOverflow, operation_error
from .handle import COUNT, PORTS, Batch
from .receiver import NO_PORTS


class AsyncEventChannel:
    """An EventChannel on whose events asyncio tasks wait.

    An event goes to every task that waits for its port. If there is none, it goes to the one
    consumer, ``events`` or ``read``. If there is none either, it stays with the handle until a
    later ``wait`` for its port, the next consumer, or a read of the handle itself, ``channel``,
    takes it. Any number of tasks may use ``wait`` and ``port_events``, also inside the body of
    ``events``. A port stays masked while its event is handled: until the body of ``events`` ends,
    or until ``wait`` is called for it again. ``events`` and ``read``, when they start, unmask the
    ports for which ``wait`` has returned. Methods that do not wait do the same as those of
    ``channel``, which may be called instead.

    A task that is cancelled while it waits loses no event: what was read stays with the handle.

    Threads: it belongs to the event loop that waits on it, and to that loop's thread. ``channel``
    may be used from any thread: closing it wakes every waiter with ChannelClosed, and unbinding a
    port wakes those who wait for that port. A thread that reads takes events from the tasks.
    """

    def __init__(
        self,
        channel: EventChannel,
        *,
        on_overflow: Callable[[frozenset[int]], object] | None = None,
    ) -> None:
        """Take over a handle.

        Args:
            channel: the handle; closing this object closes it.
            on_overflow: a plain function, called with the result of ``channel.recover()`` when the
                ring has overflowed; then the wait continues. None raises RingOverflow in every
                waiter.

        Raises:
            TypeError: ``on_overflow`` is a coroutine function: it would never be awaited.
        """
        if any(map(inspect.iscoroutinefunction, (on_overflow, type(on_overflow).__call__))):
            raise TypeError("on_overflow must be a plain function; it may start a task")
        self.channel = channel
        self._on_overflow = on_overflow
        self._watch = Watch(channel, self._pull)
        # Ports for which wait has returned: masked until it is called for them again.
        self._in_hand: dict[int, None] = {}
        # Identifies the one consumer: an object, or a weak reference to the consumer.
        self._consumer: object = None

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

    def __reduce__(self) -> NoReturn:
        raise TypeError("a handle cannot be copied or pickled")

    def __repr__(self) -> str:
        return f"<{type(self).__name__} of {self.channel!r}>"

    def bind_virq(self, virq: int) -> int:
        """As EventChannel.bind_virq."""
        return self.channel.bind_virq(virq)

    def bind_interdomain(self, remote_domain: SupportsIndex, remote_port: SupportsIndex) -> int:
        """As EventChannel.bind_interdomain."""
        return self.channel.bind_interdomain(remote_domain, remote_port)

    def bind_unbound_port(self, remote_domain: SupportsIndex) -> int:
        """As EventChannel.bind_unbound_port."""
        return self.channel.bind_unbound_port(remote_domain)

    def bind_static(self, port: SupportsIndex) -> None:
        """As EventChannel.bind_static, dangers included."""
        self.channel.bind_static(port)

    def unbind(self, port: SupportsIndex) -> None:
        """As EventChannel.unbind; tasks that wait for the port get ChannelClosed."""
        self.channel.unbind(port)

    def domain_exists(self, domid: SupportsIndex) -> bool:
        """As EventChannel.domain_exists."""
        return self.channel.domain_exists(domid)

    def check_stale(self) -> bool:
        """As EventChannel.check_stale; if it is True, tasks that wait get StaleHandle."""
        return self.channel.check_stale()

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
        """Wait for events and take them.

        Returns:
            The ports, oldest first, each masked now.

        Raises:
            RingOverflow: events were dropped, and ``on_overflow`` is None.
            ChannelClosed: the handle was closed, before or while this waited.
            RuntimeError: there is another consumer, ``read`` or ``events``; or another event loop
                or AsyncEventChannel waits on the handle.
        """
        watch = self._watch
        # Set only if it has to wait: events that are already there take fewer steps.
        consumer: object = None
        try:
            while True:
                if self._consumer is not consumer:
                    consumer = object()
                    self._claim(consumer)
                if watch.turns:
                    watch.turns -= 1
                    try:
                        if self._in_hand:
                            ports = self.channel.wait(0, unmask=self._in_hand)
                            self._in_hand = {}
                        else:
                            ports = self.channel.wait(0)
                    except RingOverflow:
                        self._recover()
                        continue
                    if ports:
                        return ports
                if consumer is None:
                    consumer = object()
                    self._claim(consumer)
                if watch.turns:
                    await watch.sleep(None)
                else:
                    watch.turns = TURNS
                    await asyncio.sleep(0)
        finally:
            if consumer is not None and self._consumer is consumer:
                self._consumer = None

    def events(self) -> "Events":
        """Iterate over the events as they arrive: ``async for port in channel.events(): ...``.

        As EventChannel.events: a port is masked while the body runs and unmasked after it, in
        batches; a loop that is left or cancelled in the middle of a batch loses nothing. The loop
        ends when its iterator is garbage-collected, as after a ``break``, or closed by ``aclose``,
        which contextlib.aclosing calls.

        Raises:
            RingOverflow: events were dropped, and ``on_overflow`` is None.
            ChannelClosed: the handle was closed, before or during the loop.
            RuntimeError: there is another consumer, ``read`` or ``events``; or another event loop
                or AsyncEventChannel waits on the handle.
        """
        events = Events(self)
        self._claim(events._key)
        if self._in_hand:
            self.channel.unmask(self._in_hand)
            self._in_hand = {}
        return events

    async def wait(self, port: SupportsIndex) -> None:
        """Wait for an event of one port; return at once if one is undelivered.

        Events since the last wait are merged into one, as for an interrupt. The port stays masked
        until ``wait`` is called for it again (or it is unmasked): so a task completes its work
        between two waits before the next event. An event goes to all tasks that wait for the port
        when it arrives.

        Args:
            port: a port of the handle.

        Raises:
            OSError: ENOTCONN: this handle does not have the port.
            RingOverflow: events were dropped, and ``on_overflow`` is None.
            ChannelClosed: the handle was closed or the port unbound, before or while this waited.
            RuntimeError: another event loop or AsyncEventChannel waits on the handle.
        """
        number = check_uint32("port", port)
        stamp = self._binding(number)
        unmask = [number] if number in self._in_hand else NO_PORTS
        watch, handle = self._watch, self.channel._handle
        if watch.turns:
            watch.turns -= 1
        else:
            watch.turns = TURNS
            await asyncio.sleep(0)
        if watch.waiters:
            self._pull(unmask)
        else:
            ports: list[int] = []
            try:
                ports = self.channel.wait(0, unmask=unmask)
                if ports == [number]:
                    # The fast path for the usual case.
                    self._in_hand[number] = None
                    return
                batch = _filled(ports)
                ports = []
                lib.handle_put_back(handle, batch.pointer)
            except RingOverflow:
                self._recover()
            except BaseException:
                lib.handle_put_back(handle, _filled(ports).pointer)
                raise
        if number in self._in_hand:
            del self._in_hand[number]
        batch = Batch()
        try:
            there = lib.handle_take_port(handle, batch.pointer, number)
            watch.dispatch()
            if not there:
                await watch.sleep(number, stamp)
            batch.words[COUNT] = 0
            self._in_hand[number] = None
        except BaseException:
            lib.handle_put_back(handle, batch.pointer)
            raise

    def port_events(self, port: SupportsIndex) -> "PortEvents":
        """Iterate over the events of one port: ``wait`` as an asynchronous iterator of the port."""
        return PortEvents(self, check_uint32("port", port))

    def _claim(self, consumer: object) -> None:
        """Make an object the one consumer.

        Raises:
            RuntimeError: there is another.
        """
        if self._watch.is_stranded:
            # The event loop was closed: its consumer never runs again.
            self._watch.stop_if_idle()
            self._consumer = None
        other = self._consumer
        if isinstance(other, weakref.ref):
            other = other()
        if other is not None:
            raise RuntimeError("events() and read() allow one consumer at a time, and there is one")
        self._consumer = consumer

    def _binding(self, port: int) -> int:
        """Return which binding a port has; -1 if that is not known.

        Raises:
            OSError: ENOTCONN: the handle does not have the port.
            ChannelClosed: the handle is closed.
        """
        handle = self.channel._handle
        stamp = lib.handle_stamp(handle, port)
        if stamp < 0 and handle.complete:
            self.channel._check()
            raise operation_error("wait", (port,), errno.ENOTCONN, self.channel.name)
        return stamp

    def _pull(self, unmask: Iterable[int] = ()) -> int:
        """Unmask ports, and read the driver's events into the core; return how many."""
        ports = list(unmask)
        count = lib.handle_pull(self.channel._handle, ffi.new("uint32_t[]", ports), len(ports))
        if count < 0:
            try:
                self.channel._fail("read", (), count)
            except RingOverflow:
                self._recover()
                return 0
        return count

    def _recover(self) -> None:
        """Recover from the RingOverflow that the caller is handling."""
        if self._on_overflow is None:
            raise  # noqa: PLE0704 - the RingOverflow
        self._on_overflow(self.channel.recover())


class Events(AsyncIterator[int]):
    """The iterator of ``AsyncEventChannel.events``: all events of a handle.

    It runs a loop of the handle itself. When that loop ends, at the latest when this iterator is
    garbage-collected, it unmasks the ports that the body got and leaves the rest to other readers.
    """

    def __init__(self, owner: AsyncEventChannel) -> None:
        self._owner, self._watch = owner, owner._watch
        self._key = weakref.ref(self)
        # If no event is pending, it yields 0 and does not end.
        self._loop = owner.channel._events(0, owner._on_overflow, idle=True)

    async def __anext__(self) -> int:
        owner, watch = self._owner, self._watch
        if owner._consumer is not self._key:
            owner._claim(self._key)
        try:
            while True:
                if watch.turns:
                    watch.turns -= 1
                    for port in self._loop:
                        if port:
                            return port
                        break
                    else:
                        raise StopAsyncIteration  # noqa: TRY301
                    await watch.sleep(None)
                else:
                    watch.turns = TURNS
                    await asyncio.sleep(0)
        except BaseException:
            if owner._consumer is self._key:
                owner._consumer = None
            raise

    async def aclose(self) -> None:
        """End the loop: unmask the ports that the body got; the rest stays with the handle."""
        self._loop.close()
        if self._owner._consumer is self._key:
            self._owner._consumer = None


class PortEvents(AsyncIterator[int]):
    """The iterator of ``AsyncEventChannel.port_events``: one port's events."""

    def __init__(self, owner: AsyncEventChannel, port: int) -> None:
        self._owner = owner
        self._port = port
        # Its end unmasks the port, whatever causes it, as the end of the loop of Events does.
        end = _unmask_at_end(owner, port)
        self._end = cast("GeneratorType[None, None, None]", end)
        next(self._end)

    async def __anext__(self) -> int:
        if self._end.gi_frame is None:
            raise StopAsyncIteration
        await self._owner.wait(self._port)
        return self._port

    async def aclose(self) -> None:
        """End the loop: unmask the port, if the body got an event."""
        self._end.close()


def _unmask_at_end(owner: AsyncEventChannel, port: int) -> Generator[None]:
    handle = owner.channel._handle
    try:
        yield
    finally:
        if port in owner._in_hand:
            del owner._in_hand[port]
            # One call into C: no signal handler can run before it.
            lib.handle_unmask_one(handle, port)


def _filled(ports: list[int]) -> Batch:
    """Return a batch of these ports, from which they can be put back."""
    batch = Batch()
    batch.words[PORTS : PORTS + len(ports)] = memoryview(pack_ports(ports)).cast("I")
    batch.words[COUNT] = len(ports)
    return batch

"""AsyncEventChannel: the events of an EventChannel, waited for in asyncio."""

import asyncio
import errno
import inspect
import weakref
from collections.abc import AsyncIterator, Callable, Generator, Iterable
from types import GeneratorType, TracebackType
from typing import NoReturn, Self, SupportsIndex, cast

from .abi import check_uint32, pack_ports
from .aio_waiters import TURNS, Watch
from .bindings import Binding
from .channel import EventChannel
from .errors import ChannelClosed, RingOverflow, StaleHandle, operation_error
from .receiver import NO_PORTS


class AsyncEventChannel:
    """An EventChannel whose events are waited for in asyncio.

    An event goes to every task that waits for its port; where none does, to the one consumer,
    ``events`` or ``read``, if there is one; and else it stays with the handle, for whoever asks
    first: a later ``wait`` for its port, the next consumer, or the handle itself, ``channel``.
    ``wait`` and ``port_events`` may be used in any number of tasks, and inside the body of
    ``events``. A port stays masked while its event is worked on: until the body of ``events`` is
    done, or until ``wait`` is called for it again; ``events`` and ``read``, as they begin, unmask
    whatever ``wait`` has returned for. What does not wait is done as on ``channel``, and may be
    done there too.

    A task that is cancelled while it waits loses no event: what was read stays with the handle.

    Threads: it belongs to the event loop that waits on it, and to that loop's thread. ``channel``
    may be used from any thread: closing it wakes every waiter with ChannelClosed, and unbinding a
    port those who wait for that. A thread that reads takes events from the tasks.
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
            on_overflow: a plain function, called with the result of ``channel.recover()`` when the
                ring has overflowed; then the waiting goes on. None raises RingOverflow in every
                waiter.

        Raises:
            TypeError: ``on_overflow`` is a coroutine function: nobody would await it.
        """
        if any(map(inspect.iscoroutinefunction, (on_overflow, type(on_overflow).__call__))):
            raise TypeError("on_overflow must be a plain function; it may start a task")
        self.channel = channel
        self._on_overflow = on_overflow
        self._inbox = channel._inbox
        self._watch = Watch(channel._inbox, channel.bindings, channel.fileno, self._pull)
        # Ports that a wait has returned for: masked until it is called again.
        self._in_hand: dict[int, None] = {}
        # An object of the consumer's own, or a reference that dies with it.
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
        raise TypeError("a handle can be neither copied nor pickled")

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
        """As EventChannel.check_stale; tasks that wait get StaleHandle where it is True."""
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
        """Wait for events and take them: the ports, oldest first, each masked now.

        Raises:
            RingOverflow: events were dropped, and there is no ``on_overflow``.
            ChannelClosed: the handle was closed, before or while this waited.
            RuntimeError: there is another consumer, of ``read`` or ``events``; or another event
                loop or AsyncEventChannel waits on the handle.
        """
        watch = self._watch
        # Its own only once it has to wait: what is there at once takes fewer steps.
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
        """Go through the events as they come: ``async for port in channel.events(): ...``.

        As EventChannel.events: the port is masked while the body works and unmasked once it is
        done, in batches; a loop that is left or cancelled in the middle of a batch loses nothing.
        A loop is left when its iterator is garbage, as it is at a ``break``, or closed by
        ``aclose``, for contextlib.aclosing.

        Raises:
            RingOverflow: events were dropped, and there is no ``on_overflow``.
            ChannelClosed: the handle was closed, before or during the loop.
            RuntimeError: there is another consumer, of ``read`` or ``events``; or another event
                loop or AsyncEventChannel waits on the handle.
        """
        events = Events(self)
        self._claim(events._key)
        if self._in_hand:
            self.channel.unmask(self._in_hand)
            self._in_hand = {}
        return events

    async def wait(self, port: SupportsIndex) -> None:
        """Wait for an event of one port; one that nobody has had yet returns at once.

        However many came since the last wait, they are one, as in the hardware. The port stays
        masked until it is waited for again (or unmasked): so what its task does between two waits
        is done before the next event. All tasks that wait for the port at the time of an event get
        it.

        Raises:
            OSError: ENOTCONN for a port that this handle does not have.
            RingOverflow: events were dropped, and there is no ``on_overflow``.
            ChannelClosed: the handle was closed or the port unbound, before or while this waited.
            RuntimeError: another event loop or AsyncEventChannel waits on the handle.
        """
        number = check_uint32("port", port)
        binding = self._binding(number)
        unmask = [number] if number in self._in_hand else NO_PORTS
        watch, inbox = self._watch, self._inbox
        if watch.turns:
            watch.turns -= 1
        else:
            watch.turns = TURNS
            await asyncio.sleep(0)
        if watch.waiters or inbox.left or inbox.batches:
            new = self._pull(unmask) > 0
        else:
            ports: list[int] = []
            try:
                ports = self.channel.wait(0, unmask=unmask)
                if ports == [number]:
                    # What comes most, in the fewest steps.
                    self._in_hand[number] = None
                    return
                inbox.add(ports)
                new = True
            except RingOverflow:
                self._recover()
                new = False
            except BaseException:
                inbox.put_back(ports)
                raise
        if number in self._in_hand:
            del self._in_hand[number]
        there = inbox.take_port(number)
        try:
            if inbox.left:
                watch.dispatch(new=new)
        except BaseException:
            inbox.put_back([number] if there else [])
            raise
        if not there:
            await watch.sleep(number, binding)
        self._in_hand[number] = None

    def port_events(self, port: SupportsIndex) -> "PortEvents":
        """Go through the events of one port: ``wait`` as an asynchronous iterator of the port."""
        return PortEvents(self, check_uint32("port", port))

    def _claim(self, consumer: object) -> None:
        """Make it the one consumer."""
        if self._watch.is_stranded:
            # A consumer of a loop that was closed never runs again.
            self._watch.let_go()
            self._consumer = None
        other = self._consumer
        if isinstance(other, weakref.ref):
            other = other()
        if other is not None:
            raise RuntimeError("events() and read() have one consumer at a time, and there is one")
        self._consumer = consumer

    def _binding(self, port: int) -> Binding | None:
        """Return how a port is bound, as far as that is known.

        Raises:
            OSError: ENOTCONN, the handle does not have the port.
            ChannelClosed: it is closed.
        """
        bindings = self.channel._bindings
        binding = bindings.view.get(port)
        if binding is None and (bindings.complete or port in bindings.unbound):
            self.channel._check_usable()
            raise operation_error("wait", (port,), errno.ENOTCONN, self.channel.name)
        return binding

    def _pull(self, unmask: Iterable[int] = ()) -> int:
        """Unmask ports, and bring what the driver has into the inbox; return how much that is."""
        try:
            return self.channel._pull(unmask)
        except RingOverflow:
            self._recover()
            return 0

    def _recover(self) -> None:
        """Recover from the overflow that is being handled."""
        if self._on_overflow is None:
            raise  # noqa: PLE0704 - it
        self._on_overflow(self.channel.recover())


class Events(AsyncIterator[int]):
    """The iterator of ``AsyncEventChannel.events``: all events of a handle.

    It has a loop of the handle itself, whose end, at the latest as this is garbage, unmasks what
    the body has had and leaves the rest to others.
    """

    def __init__(self, owner: AsyncEventChannel) -> None:
        self._owner, self._watch = owner, owner._watch
        self._key = weakref.ref(self)
        # Where nothing is there it gives 0, and no end.
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
        """Leave the loop: unmask what the body has had; the rest stays with the handle."""
        self._loop.close()
        if self._owner._consumer is self._key:
            self._owner._consumer = None


class PortEvents(AsyncIterator[int]):
    """The iterator of ``AsyncEventChannel.port_events``: one port's events."""

    def __init__(self, owner: AsyncEventChannel, port: int) -> None:
        self._owner = owner
        self._port = port
        # Like the loop of Events, its end unmasks, whatever brings that about.
        end = _unmask_at_the_end(owner, port)
        self._end = cast("GeneratorType[None, None, None]", end)
        next(self._end)

    async def __anext__(self) -> int:
        if self._end.gi_frame is None:
            raise StopAsyncIteration
        await self._owner.wait(self._port)
        return self._port

    async def aclose(self) -> None:
        """Leave the loop: unmask the port, if its event has been worked on."""
        self._end.close()


def _unmask_at_the_end(owner: AsyncEventChannel, port: int) -> Generator[None]:
    channel, data = owner.channel, bytes(pack_ports(port))
    size = len(data)
    try:
        yield
    finally:
        if port in owner._in_hand:
            del owner._in_hand[port]
            try:  # noqa: SIM105 - a call more in which a signal handler may run
                channel._unmask(data, size)
            except (ChannelClosed, StaleHandle, RuntimeError):
                pass

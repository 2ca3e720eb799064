"""The world of a strike: a handle, another one that sends it events, and counts of the events."""

import fcntl
import gc
import os
import select
from array import array
from collections import Counter
from collections.abc import Callable, Generator, Iterable, Iterator
from functools import partial
from typing import Protocol

from pyxenevtchn import DOMID_SELF, Device, EventChannel, RingOverflow, Virq
from pyxenevtchn.abi import Request
from pyxenevtchn.fake import Hypervisor, Port, reset_default
from pyxenevtchn.fake.server.remote import RemoteHypervisor

from ..contract.events import connect
from ..limits import TIMEOUT

# Free in any dom0 that runs no guests, and within both ABIs' limits.
STATIC_PORT = 4000

_NOTIFY = 0x00044504

Notify = Callable[[int], int]


class Machine(Protocol):
    """A dom0 in which only the kernel has ports."""

    @property
    def name(self) -> str | None:
        """The name by which a device is opened."""

    @property
    def patience(self) -> float:
        """How long an event may be on its way, in seconds."""

    def open(self, *, nonblocking: bool = True) -> tuple[EventChannel, Notify]:
        """Open a handle; return it, and a function that notifies its ports without the library.

        The function returns 0, or a negated errno.
        """

    def candidates(self) -> set[int]:
        """Return the ports that handles may have."""

    def settle(self) -> None:
        """Wait until the events that were sent have arrived, all but a few."""

    def check_clean(self) -> None:
        """Check that no handle is open and no port bound."""


class FakeMachine:
    """A new fake's dom0."""

    name = "fake:"
    patience = 0.0

    def __init__(self) -> None:
        self.xen: Hypervisor = Hypervisor(linux=(6, 12))
        reset_default(self.xen)

    def open(self, *, nonblocking: bool = True) -> tuple[EventChannel, Notify]:
        device = self.xen.dom0.device(nonblocking=nonblocking)
        file = device._description.file  # noqa: SLF001

        def notify(port: int) -> int:
            try:
                return file.ioctl(Request.NOTIFY, port)
            except OSError as error:
                return -(error.errno or 0)

        return EventChannel(device), notify

    def device(self) -> Device:
        """Open a device without a handle."""
        return self.xen.dom0.device()

    def candidates(self) -> set[int]:
        return _candidates(self.xen.ports(0))

    def settle(self) -> None:
        pass

    def check_clean(self) -> None:
        self.xen.check_clean()


class RealMachine:
    """The real dom0 in which this runs.

    Args:
        near: a handle for the fence.
        far: another one.
    """

    name = None
    patience = TIMEOUT / 4

    def __init__(self, near: EventChannel, far: EventChannel) -> None:
        # A vCPU gets its events in the order in which they were sent, except those that Linux
        # delays. Linux spreads ports that are bound one after the other over the vCPUs.
        self._fence = [connect(near, far) for _ in range(2 * (os.cpu_count() or 1))]
        self._near, self._far = near.fileno(), far.fileno()

    def open(self, *, nonblocking: bool = True) -> tuple[EventChannel, Notify]:
        return _open(nonblocking=nonblocking)

    def candidates(self) -> set[int]:
        return {*range(1, 100), STATIC_PORT}

    def settle(self) -> None:
        # By plain system calls: the library's code is struck.
        for pair in self._fence:
            _notify(self._near, pair.near_port)
        left = 4 * len(self._fence)
        while left:
            assert select.select([self._far], [], [], TIMEOUT)[0]
            ports = os.read(self._far, left)
            os.write(self._far, ports)
            left -= len(ports)

    def check_clean(self) -> None:
        """Do nothing: the driver does not report it."""


class PreloadedMachine:
    """The dom0 of a fake at the real device's path.

    Args:
        xen: its hypervisor.
    """

    name = None
    patience = 0.0

    def __init__(self, xen: RemoteHypervisor) -> None:
        self._xen = xen

    def open(self, *, nonblocking: bool = True) -> tuple[EventChannel, Notify]:
        return _open(nonblocking=nonblocking)

    def candidates(self) -> set[int]:
        return _candidates(self._xen.ports(0))

    def settle(self) -> None:
        pass

    def check_clean(self) -> None:
        self._xen.check_clean()


def _open(*, nonblocking: bool) -> tuple[EventChannel, Notify]:
    channel = EventChannel.open(nonblocking=nonblocking)
    return channel, partial(_notify, channel.fileno())


def _candidates(ports: Iterable[Port]) -> set[int]:
    return {port.port for port in ports if not (port.kernel or port.daemon)} | {STATIC_PORT}


def _notify(fd: int, port: int) -> int:
    try:
        fcntl.ioctl(fd, _NOTIFY, array("I", [port]))
    except OSError as error:
        return -(error.errno or 0)
    return 0


class Stuck(Exception):
    """An event loop has nothing left to do, but its task has not ended."""


class World:
    """A handle that is struck, and another one that sends it events.

    Attributes:
        machine: where they are.
        near: the handle that is struck.
        far: the other one, which nothing strikes.
        ports: three ports of ``near`` that are connected to ``far``.
        held: a fourth one, in a list of its own.
        virq_port: a port of ``near`` that is bound to a VIRQ.
        offer: an unbound port of ``far``.
        drops: whether events may be lost, and ports masked whose events the owner did not get.
        unbinds: whether the first port may have been unbound, and its event lost.
        closes: whether the handle may have been closed.
        sent: how many events were sent to each port.
        seen: how many of them the owner has got, from calls.
        in_hand: ports whose events the owner has got, and which it must unmask.
        yielded: ports that a loop yielded; the loop unmasks them itself.
        answered, recovered, buffer, paused, device: for the operations.
        descriptor: a duplicate of ``near``'s descriptor that from_fd() was called with; -1: none.
        given: whether it then belongs to the new handle.
        told: exceptions of finalizers, and those that an event loop reported.
        has_dead_task: whether an event loop has a task that cannot be cancelled.
    """

    def __init__(
        self,
        machine: Machine,
        *,
        blocking: bool = False,
        drops: bool = False,
        unbinds: bool = False,
    ) -> None:
        self.machine = machine
        self.drops = drops
        self.unbinds = unbinds
        self.closes: bool = False
        self.near, self._notify_near = machine.open(nonblocking=not blocking)
        self.far, self._notify_far = machine.open()
        pairs = [connect(self.near, self.far) for _ in range(4)]
        self._far_ports: dict[int, int] = {pair.near_port: pair.far_port for pair in pairs}
        ports = list(self._far_ports)
        self.ports, self.held = ports[:3], ports[3:]
        self.virq_port: int = self.near.bind_virq(Virq.XENOPROF)
        self.offer: int = self.far.bind_unbound_port(DOMID_SELF)
        self.sent: Counter[int] = Counter()
        self.seen: Counter[int] = Counter()
        self.in_hand: set[int] = set()
        self.yielded: list[int] = []
        self.answered: set[int] = set()
        self.recovered: list[frozenset[int]] = []
        self.buffer: array[int] = array("I")
        self.paused: Generator[int] | None = None
        self.device: Device | None = None
        self.descriptor: int = -1
        self.given: bool = False
        self.told: list[BaseException] = []
        self.has_dead_task: bool = False

    def send(self, *ports: int) -> None:
        """Send an event to each of these ports, and wait until it has arrived."""
        for port in ports:
            self._notify_far(self._far_ports[port])
        self.sent.update(ports)
        self.machine.settle()

    def see(self, ports: Iterable[int]) -> None:
        """Record that the owner got an event of each of these ports."""
        for port in ports:
            self.seen[port] += 1
            self.in_hand.add(port)

    def had(self) -> Counter[int]:
        """Return how many events of each port the owner has got so far."""
        return self.seen + Counter(self.yielded)

    def owes(self) -> bool:
        """Return whether an event that must come has not come yet."""
        had = self.had()
        return any(had[port] < self.sent[port] for port in self._certain())

    def hold(self) -> None:
        """Let the owner get an event of ``held``, and send another one to the masked port."""
        self.send(*self.held)
        ports = self.near.wait(TIMEOUT)
        assert ports == self.held
        self.see(ports)
        self.send(*self.held)

    def put_away(self, opened: EventChannel | None) -> Iterator[str]:
        """Close what an operation used or returned, as its owner does."""
        if self.paused:
            self.paused.close()
        if opened:
            opened.close()
        if self.device:
            self.device.close()
        if self.descriptor >= 0 and not (opened and self.given):
            gc.collect()  # garbage must not close the number later
            try:
                os.close(self.descriptor)
            except OSError:
                yield "the owner's descriptor was closed"

    def go_on(self) -> None:
        """Go on as the owner: unmask the ports in hand, and take all events."""
        empty = 0
        # A wait may unmask a port that a loop left masked: its event comes in the next wait.
        while empty < 2:
            self.near.unmask(self.in_hand)
            self.in_hand.clear()
            self.machine.settle()
            try:
                ports = self.near.wait(self.machine.patience if self.owes() else 0)
            except RingOverflow:
                self.near.recover()
                continue
            empty = 0 if ports else empty + 1
            self.see(ports)

    def problems(self) -> Iterator[str]:
        """Yield what is wrong with the handle."""
        if self.drops:
            self.in_hand.update(self._far_ports)
        self.go_on()
        yield from self._uneven("an event was lost", "an event came twice")
        for counts in (self.sent, self.seen, self.yielded):
            counts.clear()
        self.send(*[port for port in self._far_ports if port in self.near.bindings])
        self.go_on()
        # An event that may have been lost may also come late.
        yield from self._uneven(
            "a port was left masked", "" if self.drops else "an event came late"
        )
        yield from self._wrong_bindings()

    def _certain(self) -> Iterable[int]:
        """Return the ports whose events must come."""
        return () if self.drops else [*self.ports[self.unbinds :], *self.held]

    def _uneven(self, too_few: str, too_many: str) -> Iterator[str]:
        """Compare the events that the owner got with those that were sent."""
        had = self.had()
        for port in self._far_ports:
            if had[port] < self.sent[port] and port in self._certain():
                yield too_few
            # A new port that has the number of an unbound one begins with an event.
            is_new = self.unbinds and port == self.ports[0]
            if had[port] > self.sent[port] and too_many and not is_new:
                yield too_many

    def _wrong_bindings(self) -> Iterator[str]:
        named = set(self.near.bindings)
        # NOTIFY succeeds for exactly the ports that the handle has, those of VIRQs too.
        bound = {port for port in self.machine.candidates() | named if not self._notify_near(port)}
        if named - bound:
            yield "bindings names a port that is not bound"
        if bound - named:
            yield "bindings does not name a port that is bound"

    def close(self) -> Iterator[str]:
        """Close both handles, and yield what they have left behind."""
        self.near.close()
        self.far.close()
        try:
            self.machine.check_clean()
        except AssertionError:
            yield "a port or a handle is left"
        with self.machine.open()[0] as again:
            for virq in (Virq.ARGO, Virq.XENOPROF):
                try:
                    again.bind_virq(virq)
                except FileExistsError:
                    yield f"{virq.name} is still bound"

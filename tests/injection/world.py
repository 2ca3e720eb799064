"""What a strike happens to: a handle, another one that sends it events, and their account."""

import fcntl
import gc
import os
import select
from array import array
from collections import Counter
from collections.abc import Callable, Generator, Iterable, Iterator
from functools import partial, partialmethod
from typing import Protocol

from pyxenevtchn import DOMID_SELF, Device, EventChannel, RingOverflow, Virq
from pyxenevtchn.abi import Request
from pyxenevtchn.fake import FakeDevice, Hypervisor, Port, reset_default
from pyxenevtchn.fake.server.remote import RemoteHypervisor

from ..contract.events import connect
from ..limits import TIMEOUT

# Free in any dom0 that runs no guests, and within both ABIs' limits.
STATIC_PORT = 4000

_NOTIFY = 0x00044504

Notify = Callable[[int], int]


class Machine(Protocol):
    """A dom0, which has no other ports than its kernel's."""

    @property
    def name(self) -> str | None:
        """What a device there is opened by."""

    @property
    def patience(self) -> float:
        """For how many seconds an event may be on its way."""

    def open(self, *, nonblocking: bool = True) -> tuple[EventChannel, Notify]:
        """Open a handle, and give a way to notify its ports that is not the library's.

        This returns 0, or an errno negated.
        """

    def candidates(self) -> set[int]:
        """Give the ports that handles may have."""

    def settle(self) -> None:
        """Wait until the events that were sent have arrived, all but a few."""

    def check_clean(self) -> None:
        """Check that no handle is open and no port bound."""


# A fake's device whose calls are calls into C, as the real one's are: a handler that is due as one
# ends runs before the caller has its result.
_DeviceInC = type(
    "DeviceInC",
    (FakeDevice,),
    {
        name: partialmethod(getattr(FakeDevice, name))
        for name in ("turn", "unmask", "unmask_one", "close")
    },
)


class FakeMachine:
    """A new fake's dom0."""

    name = "fake:"
    patience = 0.0

    def __init__(self) -> None:
        self.xen: Hypervisor = Hypervisor(linux=(6, 12))
        reset_default(self.xen)

    def open(self, *, nonblocking: bool = True) -> tuple[EventChannel, Notify]:
        device = self.device(nonblocking=nonblocking)
        return EventChannel(device), device.request(Request.NOTIFY)

    def device(self, *, nonblocking: bool = True) -> Device:
        """Open a device alone."""
        device = self.xen.dom0.device(nonblocking=nonblocking)
        device.__class__ = _DeviceInC
        return device

    def candidates(self) -> set[int]:
        return _candidates(self.xen.ports(0))

    def settle(self) -> None:
        pass

    def check_clean(self) -> None:
        self.xen.check_clean()


class RealMachine:
    """The dom0 that this runs in.

    Args:
        near: a handle for its own use.
        far: another one.
    """

    name = None
    patience = TIMEOUT / 4

    def __init__(self, near: EventChannel, far: EventChannel) -> None:
        # A processor gets its events in the order in which they were sent, but for those that
        # Linux has put off; ports that are bound one after the other are spread over them.
        self._fence = [connect(near, far) for _ in range(2 * (os.cpu_count() or 1))]
        self._near, self._far = near.fileno(), far.fileno()

    def open(self, *, nonblocking: bool = True) -> tuple[EventChannel, Notify]:
        return _open(nonblocking=nonblocking)

    def candidates(self) -> set[int]:
        return {*range(1, 100), STATIC_PORT}

    def settle(self) -> None:
        # By system calls alone: the library's code is struck.
        for pair in self._fence:
            _notify(self._near, pair.near_port)
        left = 4 * len(self._fence)
        while left:
            assert select.select([self._far], [], [], TIMEOUT)[0]
            ports = os.read(self._far, left)
            os.write(self._far, ports)
            left -= len(ports)

    def check_clean(self) -> None:
        """Do nothing: the driver does not tell."""


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
    """An event loop has nothing to do any more, and what it runs has not ended."""


class World:
    """A handle that is struck, and another one that sends it events.

    Attributes:
        machine: where they are.
        near: the handle that is struck.
        far: the other one, which nothing strikes.
        ports: three ports of ``near`` that are connected to ``far``.
        held: a fourth one, in a list of its own.
        virq_port: a port of ``near`` that is bound to a VIRQ.
        offer: a port of ``far`` that waits for somebody to connect.
        drops: whether events may have gone, and ports be masked that the owner has not got.
        unbinds: whether the first port may have been unbound, and its event be gone.
        sent: how many events each port was sent.
        seen: how many its owner has got, from calls.
        in_hand: ports that the owner has got, and is to unmask.
        yielded: ports that a loop gave, which unmasks them itself.
        answered, recovered, buffer, paused, device: what operations need.
        descriptor: a duplicate of ``near``'s that was adopted, or was to be; -1 is none.
        given: whether it then belongs to the new handle.
        told: exceptions that an event loop was told of.
        has_dead_task: whether it has a task that cannot be ended.
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
        """Send an event to each of these ports, and have it arrive."""
        for port in ports:
            self._notify_far(self._far_ports[port])
        self.sent.update(ports)
        self.machine.settle()

    def see(self, ports: Iterable[int]) -> None:
        """Have the owner get these ports' events."""
        for port in ports:
            self.seen[port] += 1
            self.in_hand.add(port)

    def had(self) -> Counter[int]:
        """Tell how many events of each port the owner has got so far."""
        return self.seen + Counter(self.yielded)

    def owes(self) -> bool:
        """Tell whether an event is still to come that has to."""
        had = self.had()
        return any(had[port] < self.sent[port] for port in self._certain())

    def hold(self) -> None:
        """Have the owner get an event of ``held``, with another one waiting behind the mask."""
        self.send(*self.held)
        ports = self.near.wait(TIMEOUT)
        assert ports == self.held
        self.see(ports)
        self.send(*self.held)

    def put_away(self, opened: EventChannel | None) -> Iterator[str]:
        """Close what an operation was done with or has given, as its owner does."""
        if self.paused:
            self.paused.close()
        if opened:
            opened.close()
        if self.device:
            self.device.close()
        if self.descriptor >= 0 and not (opened and self.given):
            gc.collect()  # nobody may close it later
            try:
                os.close(self.descriptor)
            except OSError:
                yield "the owner's descriptor was closed"

    def go_on(self) -> None:
        """Go on as the owner does: unmask what is in hand, and take what is there."""
        empty = 0
        # A wait may unmask what a loop has left masked: what comes then is in the next one.
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
        """Say what is wrong with the handle."""
        if self.drops:
            self.in_hand.update(self._far_ports)
        self.go_on()
        yield from self._uneven("an event is lost", "an event came twice")
        for counts in (self.sent, self.seen, self.yielded):
            counts.clear()
        self.send(*[port for port in self._far_ports if port in self.near.bindings])
        self.go_on()
        # One that may have gone may have been late.
        yield from self._uneven(
            "a port was left masked", "" if self.drops else "an event came late"
        )
        yield from self._wrong_bindings()

    def _certain(self) -> Iterable[int]:
        """Give the ports whose events have to come."""
        return () if self.drops else [*self.ports[self.unbinds :], *self.held]

    def _uneven(self, too_few: str, too_many: str) -> Iterator[str]:
        """Compare what the owner has got with what it was sent."""
        had = self.had()
        for port in self._far_ports:
            if had[port] < self.sent[port] and port in self._certain():
                yield too_few
            if had[port] > self.sent[port] and too_many:
                yield too_many

    def _wrong_bindings(self) -> Iterator[str]:
        named = set(self.near.bindings)
        # The driver knows the ports that a handle has; it has nothing against a VIRQ's.
        bound = {port for port in self.machine.candidates() | named if not self._notify_near(port)}
        if named - bound:
            yield "bindings names a port that is not bound"
        if bound - named:
            yield "bindings does not name a port that is bound"

    def close(self) -> Iterator[str]:
        """Close both handles, and say what is left of them."""
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

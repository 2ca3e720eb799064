"""The calls of EventChannel that are struck, and the events that are in the queue before them."""

import os
from array import array
from collections.abc import Callable, Generator, Iterable
from dataclasses import dataclass
from typing import Any

from pyxenevtchn import DOMID_SELF, EventChannel, RingOverflow, Virq

from ..contract.events import overflow
from ..limits import TIMEOUT
from .world import STATIC_PORT, FakeMachine, World

Call = Callable[[], object]
Queue = Callable[[World], None]
Taken = Callable[[World, object], Iterable[int]]


def nothing(_world: World) -> None:
    """No event in the queue."""


def in_the_ring(world: World) -> None:
    """Events in the driver's ring."""
    world.send(*world.ports)


def left_over(world: World) -> None:
    """Events that were read by a loop that took only the first."""
    world.send(*world.ports)
    world.near.poll(TIMEOUT)
    for port in world.near.events(0):
        world.yielded.append(port)
        break


def in_both(world: World) -> None:
    """Events of both kinds."""
    left_over(world)
    world.send(world.ports[0])


def overflowed(world: World) -> None:
    """A ring that has overflowed."""
    overflow(world.near, world.far)


QUEUES: tuple[Queue, ...] = (nothing, in_the_ring, left_over, in_both)
FILLED = QUEUES[1:]


@dataclass(frozen=True)
class Operation:
    """A call that is struck.

    Attributes:
        prepare: returns the call for a world; the preparation itself is not struck.
        queues: the queues before the call, one after the other.
        taken: returns the ports in the call's value.
        error: what the call may raise without a strike, if anything.
        holds: whether the owner has a port in hand, see World.hold.
        drops: whether events may be lost, as with RESET; the owner then unmasks every port.
        unbinds: whether it unbinds the first port, whose event may then be lost.
        closes: whether it may close the handle.
        cancels: whether it cancels a task, which then may not report another exception.
        blocking: whether the handle's reads wait.
        warns: whether a handle is garbage collected that was not closed.
        by_c: whether C code makes the call, and can lose its value after the library's return.
        fake_only: whether it must not run on a real device.
        world: the class of its world.
    """

    prepare: Callable[[Any], Call]
    queues: tuple[Queue, ...] = QUEUES
    taken: Taken | None = None
    error: type[Exception] | tuple[type[Exception], ...] = ()
    holds: bool = False
    drops: bool = False
    unbinds: bool = False
    closes: bool = False
    cancels: bool = False
    blocking: bool = False
    warns: bool = False
    by_c: bool = False
    fake_only: bool = False
    world: type[World] = World


def listed(_world: World, value: object) -> Iterable[int]:
    assert isinstance(value, list)
    return value


def buffered(world: World, value: object) -> Iterable[int]:
    assert isinstance(value, int)
    return world.buffer[:value]


def read_into(world: World, room: int) -> Call:
    world.buffer = array("I", bytes(4 * room))
    return lambda: world.near.read_into(world.buffer)


def loop(world: World, turns: int = 100) -> Call:
    """Iterate over the events; each port gets another event while the body handles its first."""

    def call() -> None:
        for port in world.near.events(0):
            # One call into C: no handler can run in the middle of it.
            world.yielded.append(port)
            if len(world.yielded) == turns:
                break
            if port not in world.answered:
                world.answered.add(port)
                world.send(port)

    return call


def loop_that_fails(world: World) -> Call:
    def call() -> None:
        for port in world.near.events(0):
            world.yielded.append(port)
            raise LookupError(port)

    return call


def loop_over_overflow(world: World) -> Call:
    def call() -> None:
        for port in world.near.events(0, on_overflow=world.recovered.append):
            world.yielded.append(port)

    return call


def paused_loop(world: World) -> Generator[int]:
    """Return a loop that is in the middle of a batch."""
    assert world.near.poll(TIMEOUT)
    world.paused = world.near.events(0)
    for port in world.paused:
        world.yielded.append(port)
        break
    return world.paused


def next_event(world: World) -> Call:
    loop = paused_loop(world)

    def call() -> None:
        # next() is C code: its value is lost if the handler runs at its end.
        world.yielded.append(next(loop))

    return call


def close_loop(world: World) -> Call:
    loop = paused_loop(world)
    return loop.close


def drop_loop(world: World) -> Call:
    def call() -> None:
        world.paused = None

    paused_loop(world)
    return call


def adopt(world: World, *, closefd: bool) -> Call:
    world.descriptor, world.given = os.dup(world.near.fileno()), closefd
    bindings = dict(world.near.bindings)
    return lambda: EventChannel.from_fd(world.descriptor, closefd=closefd, bindings=bindings)


def of_device(world: World) -> Call:
    assert isinstance(world.machine, FakeMachine)
    world.device = device = world.machine.device()
    return lambda: EventChannel(device)


def leave(world: World) -> Call:
    def call() -> None:
        with world.near:
            pass

    return call


def leave_by_exception(world: World) -> Call:
    def call() -> None:
        with world.near:
            raise LookupError

    return call


def drop(world: World, *, closed: bool) -> Call:
    """Drop the last reference to a handle that has a bound VIRQ and was polled."""
    dropped = [world.machine.open()[0]]
    dropped[0].bind_virq(Virq.ARGO)
    dropped[0].poll(0)
    if closed:
        dropped[0].close()
    return dropped.clear


OPERATIONS: dict[str, Operation] = {
    # Taking events.
    "wait": Operation(lambda w: w.near.wait, FILLED, listed),
    "wait-0": Operation(lambda w: lambda: w.near.wait(0), taken=listed),
    "wait-time": Operation(lambda w: lambda: w.near.wait(0.001), taken=listed),
    "wait-unmask": Operation(
        lambda w: lambda: w.near.wait(0.001, unmask=w.held), taken=listed, holds=True
    ),
    "wait-blocking": Operation(lambda w: lambda: w.near.wait(0), taken=listed, blocking=True),
    "wait-overflow": Operation(
        lambda w: lambda: w.near.wait(0), (overflowed,), listed, error=RingOverflow, drops=True
    ),
    "read": Operation(lambda w: w.near.read, taken=listed, error=BlockingIOError),
    "read-1": Operation(lambda w: lambda: w.near.read(1), taken=listed, error=BlockingIOError),
    "read-blocking": Operation(lambda w: w.near.read, FILLED, listed, blocking=True),
    "read-into": Operation(lambda w: read_into(w, 1024), taken=buffered, error=BlockingIOError),
    "read-into-1": Operation(lambda w: read_into(w, 1), taken=buffered, error=BlockingIOError),
    "read-into-blocking": Operation(
        lambda w: read_into(w, 1024), taken=buffered, error=BlockingIOError, blocking=True
    ),
    "poll": Operation(lambda w: lambda: w.near.poll(0)),
    "poll-time": Operation(lambda w: lambda: w.near.poll(0.001)),
    "loop": Operation(loop),
    "loop-break": Operation(lambda w: loop(w, 2), FILLED),
    "loop-exception": Operation(loop_that_fails, FILLED, error=LookupError),
    "loop-overflow": Operation(loop_over_overflow, (overflowed,), drops=True),
    "loop-next": Operation(next_event, FILLED, error=StopIteration, by_c=True),
    "loop-close": Operation(close_loop, FILLED),
    "loop-drop": Operation(drop_loop, FILLED),
    "unmask": Operation(lambda w: lambda: w.near.unmask(w.held), holds=True),
    "unmask-one": Operation(lambda w: lambda: w.near.unmask(w.held[0]), holds=True),
    "reset": Operation(lambda w: w.near.reset, drops=True),
    "recover": Operation(lambda w: w.near.recover, (*QUEUES, overflowed), drops=True),
    # Binding, and sending.
    "bind-virq": Operation(lambda w: lambda: w.near.bind_virq(Virq.ARGO)),
    "check-stale": Operation(lambda w: w.near.check_stale),
    # On a real device its hint looks at every process, which takes seconds a strike.
    "bind-virq-again": Operation(
        lambda w: lambda: w.near.bind_virq(Virq.XENOPROF),
        (nothing,),
        error=FileExistsError,
        fake_only=True,
    ),
    "bind-interdomain": Operation(lambda w: lambda: w.near.bind_interdomain(DOMID_SELF, w.offer)),
    "bind-unbound-port": Operation(lambda w: lambda: w.near.bind_unbound_port(DOMID_SELF)),
    "bind-static": Operation(lambda w: lambda: w.near.bind_static(STATIC_PORT), fake_only=True),
    "unbind": Operation(lambda w: lambda: w.near.unbind(w.ports[0]), unbinds=True),
    "unbind-virq": Operation(lambda w: lambda: w.near.unbind(w.virq_port)),
    "notify": Operation(lambda w: lambda: w.near.notify(w.ports[0])),
    "notify-many": Operation(lambda w: lambda: w.near.notify_many(w.ports)),
    "restrict-domid": Operation(lambda w: lambda: w.near.restrict_domid(1)),
    # Opening and closing.
    "open": Operation(lambda w: lambda: EventChannel.open(w.machine.name), (nothing,)),
    "open-blocking": Operation(
        lambda w: lambda: EventChannel.open(w.machine.name, nonblocking=False), (nothing,)
    ),
    "open-device": Operation(of_device, (nothing,), by_c=True, fake_only=True),
    "from-fd": Operation(lambda w: adopt(w, closefd=True)),
    "from-fd-borrowed": Operation(lambda w: adopt(w, closefd=False)),
    "close": Operation(lambda w: w.near.close, closes=True),
    "exit": Operation(leave, closes=True),
    "exit-exception": Operation(leave_by_exception, error=LookupError, closes=True),
    "drop": Operation(lambda w: drop(w, closed=False), (nothing,), warns=True),
    "drop-closed": Operation(lambda w: drop(w, closed=True), (nothing,)),
    "repr": Operation(lambda w: lambda: repr(w.near), (nothing,)),
}

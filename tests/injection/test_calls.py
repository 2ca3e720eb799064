"""EventChannel with a signal handler that uses it, itself or by a thread, at each opcode."""

from collections.abc import Callable
from contextlib import suppress

import pytest

from pyxenevtchn import DOMID_SELF, ChannelClosed

from .examine import Act, assert_undisturbed
from .operations import OPERATIONS
from .world import Machine, World

pytestmark = [
    pytest.mark.backends("fake", "preload", "real", on_demand=("preload",)),
    pytest.mark.timeout(300),
]


def take(world: World) -> None:
    world.see(world.near.wait(0))


def leave_a_loop(world: World) -> None:
    for port in world.near.events(0):
        world.yielded.append(port)
        break
    world.near.poll(0)


def notify(world: World) -> None:
    world.near.notify(world.ports[0])
    world.near.unmask(world.held)


def bind(world: World) -> None:
    world.near.bind_unbound_port(DOMID_SELF)


def unbind(world: World) -> None:
    world.unbinds = True
    with suppress(OSError):  # the call has unbound it already
        world.near.unbind(world.ports[0])


def close(world: World) -> None:
    world.closes = True
    world.near.close()


ACTS: tuple[Act, ...] = (take, leave_a_loop, notify, bind, unbind, close)

# What is not in here is the same call in another form, or is made by C.
NAMES = (
    *("wait-0", "wait-unmask", "read-1", "read-into", "poll", "loop", "loop-break", "unmask"),
    *("bind-interdomain", "bind-unbound-port", "unbind", "notify-many", "check-stale", "close"),
)


@pytest.mark.parametrize("in_thread", [False, True], ids=["handler", "thread"])
@pytest.mark.parametrize("act", ACTS, ids=lambda act: act.__name__)
@pytest.mark.parametrize("name", NAMES)
def test_nothing_is_lost_and_nothing_comes_twice(
    new_machine: Callable[[], Machine], name: str, act: Act, stride: int, in_thread: bool
) -> None:
    operation = OPERATIONS[name]

    def use(world: World) -> None:
        with suppress(ChannelClosed):
            act(world)

    assert_undisturbed(new_machine, operation, use, stride, in_thread=in_thread)

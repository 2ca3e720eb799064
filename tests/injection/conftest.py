from collections.abc import Callable, Iterator
from typing import NoReturn

import pytest

from pyxenevtchn import EventChannel
from pyxenevtchn.fake import reset_default

from ..fake.server.process import ServerProcess
from .examine import quiet_collector
from .strike import missing
from .world import FakeMachine, Machine, PreloadedMachine, RealMachine


@pytest.fixture(scope="module", autouse=True)
def quiet() -> Iterator[None]:
    with quiet_collector():
        yield


@pytest.fixture(scope="session", autouse=True)
def tool(unavailable: Callable[[str], NoReturn]) -> None:
    """Skip the tests where the tool cannot be built."""
    if reason := missing():
        unavailable(reason)


@pytest.fixture
def new_machine(
    backend: str, backend_server: ServerProcess | None
) -> Iterator[Callable[[], Machine]]:
    """A function that returns a dom0 for a strike."""
    if backend == "fake":
        yield FakeMachine
        reset_default()
    elif backend_server:
        machine = PreloadedMachine(backend_server.xen)
        yield lambda: machine
    else:
        with EventChannel.open() as near, EventChannel.open() as far:
            real = RealMachine(near, far)
            yield lambda: real


@pytest.fixture
def stride(pytestconfig: pytest.Config, backend: str) -> int:
    """Return about how many opcodes there are to a strike: the option --stride, or more.

    The library runs the same opcodes on each backend. The fake's device is struck at every one; the
    preloaded one, where each call is a round trip, at some of them.
    """
    stride: int = pytestconfig.getoption("--stride")
    return stride if backend != "preload" else 5 * stride

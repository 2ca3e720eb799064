import sys
from collections.abc import Iterator
from contextlib import ExitStack, closing
from functools import partial
from typing import Protocol

import pytest

from pyxenevtchn import Device, EventChannel
from pyxenevtchn.fake import Hypervisor
from pyxenevtchn.opening import open_device as open_by_name

from ..conftest import name_of
from ..fake.server.process import ServerProcess
from ..guests import Guest, guest_of, guest_of_server
from ..real_guest import SharedGuest
from .events import Pair, connect
from .loops import LOOPS, Run, run_in


class OpenDevice(Protocol):
    def __call__(self, *, nonblocking: bool = True) -> Device: ...


class OpenChannel(Protocol):
    def __call__(self, *, nonblocking: bool = True) -> EventChannel: ...


@pytest.fixture
def xen() -> Iterator[Hypervisor]:
    """The fake's hypervisor; the test must leave it clean. A real device does not use it."""
    hypervisor = Hypervisor(linux=(6, 12))
    yield hypervisor
    hypervisor.check_clean()


@pytest.fixture
def guest(
    backend: str,
    backend_server: ServerProcess | None,
    xen: Hypervisor,
    shared_guest: SharedGuest,
) -> Iterator[Guest]:
    """Another domain than dom0, which the tests run in."""
    if backend == "real":
        yield shared_guest.lend()
        return
    fake = guest_of_server(backend_server) if backend_server else guest_of(xen)
    with closing(fake):
        yield fake


@pytest.fixture
def device_name(backend: str, backend_server: ServerProcess | None) -> str | None:
    """The name by which to open a device in dom0; None if it is not opened by name."""
    return None if backend == "fake" else name_of(backend, backend_server)


@pytest.fixture
def open_device(device_name: str | None, xen: Hypervisor) -> OpenDevice:
    """Open a device in dom0; the caller closes it."""

    def open_one(*, nonblocking: bool = True) -> Device:
        if device_name is None:
            return xen.dom0.device(nonblocking=nonblocking)
        return open_by_name(device_name, nonblocking=nonblocking)

    return open_one


@pytest.fixture
def open_channel(open_device: OpenDevice) -> Iterator[OpenChannel]:
    """Open a handle in dom0; it is closed when the test ends."""
    with ExitStack() as stack:

        def open_one(*, nonblocking: bool = True) -> EventChannel:
            return stack.enter_context(EventChannel(open_device(nonblocking=nonblocking)))

        yield open_one


@pytest.fixture
def channel(open_channel: OpenChannel) -> EventChannel:
    return open_channel()


@pytest.fixture
def pair(open_channel: OpenChannel) -> Pair:
    """A connected pair of ports on two handles."""
    return connect(open_channel(), open_channel())


@pytest.fixture
def pairs(open_channel: OpenChannel) -> list[Pair]:
    """Five connected pairs of ports between the same two handles."""
    near, far = open_channel(), open_channel()
    return [connect(near, far) for _ in range(5)]


@pytest.fixture(params=LOOPS)
def run(request: pytest.FixtureRequest) -> Run:
    """Run a coroutine function in each kind of event loop."""
    return partial(run_in, LOOPS[request.param])


@pytest.fixture
def restless_threads() -> Iterator[None]:
    """Make threads switch as often as possible."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(before)


@pytest.fixture
def rounds(backend: str) -> int:
    """How often a race is run: the scheduler decides which of its threads is the first.

    Less often on the real device: a round takes 0.1 s or more on an emulated processor.
    """
    return 4 if backend == "real" else 20


@pytest.fixture
def fence(open_channel: OpenChannel) -> Pair:
    """A pair that the test itself does not use, for expect_nothing()."""
    return connect(open_channel(), open_channel())

import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NoReturn

import pytest

from .fake_server.process import ServerProcess, SharedServer, serving
from .guests import SharedGuest
from .limits import Limits
from .reaper import Reaper
from .skips import XEN, Skips

BACKENDS = ("fake", "server", "real")
DEVICE_NODE = "/dev/xen/evtchn"


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--device",
        choices=BACKENDS,
        help="run the contract on this device alone; with real, a test that cannot run fails",
    )
    parser.addoption(
        "--examples",
        type=int,
        default=100,
        help="how many sequences the differential test tries",
    )
    parser.addoption(
        "--may-skip",
        action="append",
        metavar="NEED",
        default=[],
        help="what this machine lacks: a test that is skipped for want of anything else fails",
    )
    parser.addoption(
        "--soak", type=float, default=2.0, metavar="SECONDS", help="how long the soak test lasts"
    )
    parser.addoption(
        "--stride",
        type=int,
        default=1,
        metavar="OPCODES",
        help="strike at random, once for about so many opcodes; 1 strikes everywhere",
    )


def pytest_configure(config: pytest.Config) -> None:
    # What a script starts in the background ignores Ctrl-C, and under nohup a hangup; so would all
    # that is started here.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    for number in (signal.SIGHUP, signal.SIGQUIT):
        if signal.getsignal(number) == signal.SIG_IGN:
            signal.signal(number, lambda *_: None)
    config.pluginmanager.register(Limits(config))
    config.pluginmanager.register(Reaper())
    config.pluginmanager.register(Skips(config.getoption("--may-skip")))
    config.addinivalue_line(
        "markers", "backends(*names): the devices that a contract test can be run on"
    )


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "backend" not in metafunc.fixturenames:
        return
    chosen = metafunc.config.getoption("--device")
    marker = metafunc.definition.get_closest_marker("backends")
    metafunc.parametrize(
        "backend",
        [
            name
            for name in BACKENDS
            if chosen in {None, name} and (not marker or name in marker.args)
        ],
        indirect=True,
    )


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out, with a chosen device, what can be shown on another one alone."""
    chosen = config.getoption("--device")
    if chosen:
        others = [
            item
            for item in items
            if (marker := item.get_closest_marker("backends")) and chosen not in marker.args
        ]
        config.hook.pytest_deselected(items=others)
        items[:] = [item for item in items if item not in others]


@pytest.fixture(scope="session")
def unavailable(pytestconfig: pytest.Config) -> Callable[[str], NoReturn]:
    """End a test that lacks something: skipped, but failed where the real device was asked for."""

    def end(reason: str) -> NoReturn:
        if pytestconfig.getoption("--device") == "real":
            pytest.fail(reason)
        pytest.skip(reason)

    return end


@pytest.fixture(scope="session")
def shared_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SharedServer]:
    """The server of the tests that need no particular one."""
    shared = SharedServer(tmp_path_factory.mktemp("server") / "socket")
    yield shared
    shared.stop()


@pytest.fixture(scope="module")
def shared_guest(unavailable: Callable[[str], NoReturn]) -> Iterator[SharedGuest]:
    """The domain beside dom0 of the tests on a real device, if they ask for one."""
    shared = SharedGuest(unavailable)
    yield shared
    shared.stop()


@pytest.fixture
def server(shared_server: SharedServer) -> Iterator[ServerProcess]:
    """A server that others use before and after: it is clean in the end."""
    with shared_server.lend() as lent:
        yield lent


@pytest.fixture
def own_server(tmp_path: Path) -> Iterator[ServerProcess]:
    """A server to be done with as one likes."""
    with serving(tmp_path / "socket") as started:
        yield started


@pytest.fixture
def backend(request: pytest.FixtureRequest, unavailable: Callable[[str], NoReturn]) -> str:
    """The kind of device under test."""
    name: str = request.param
    if name == "real" and not os.access(DEVICE_NODE, os.R_OK | os.W_OK):
        unavailable(f"needs {XEN}: tools/test --xen runs this on one")
    return name


@pytest.fixture
def device(backend: str, shared_server: SharedServer) -> Iterator[str]:
    """The name of a device, in dom0; a server is clean in the end."""
    if backend == "server":
        with shared_server.lend() as lent:
            yield lent.name()
    else:
        yield DEVICE_NODE if backend == "real" else "fake:"

import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NoReturn

import pytest

from pyxenevtchn.fake import preload

from . import machines
from .fake.server.process import ServerProcess, SharedServer, serving
from .here import FAKE, Here, real
from .limits import Limits
from .real_guest import SharedGuest
from .reaper import Reaper
from .skips import XEN, Skips

# With preload, the fake is at the real device's path and is opened like the real device.
BACKENDS = ("fake", "server", "preload", "real")
DEVICE_NODE = "/dev/xen/evtchn"

IS_PRELOADED = str(preload.OBJECT) in os.environ.get("LD_PRELOAD", "")
HAS_DEVICE = os.access(DEVICE_NODE, os.R_OK | os.W_OK) and not IS_PRELOADED


def pytest_addoption(parser: pytest.Parser) -> None:
    machines.add_options(parser)
    parser.addoption(
        "--device",
        choices=BACKENDS,
        help="run the contract on this device only; with real, a test that cannot run fails",
    )
    parser.addoption(
        "--examples",
        type=int,
        default=100,
        help="how many sequences the differential test tries",
    )
    parser.addoption(
        "--seconds",
        type=float,
        default=1e9,
        help="how long each differential test runs at most",
    )
    parser.addoption(
        "--may-skip",
        action="append",
        metavar="NEED",
        default=[],
        help="what this machine lacks: a test that is skipped for any other reason fails",
    )
    parser.addoption(
        "--soak", type=float, default=2.0, metavar="SECONDS", help="how long the soak test lasts"
    )
    parser.addoption(
        "--stride",
        type=int,
        default=1,
        metavar="OPCODES",
        help="strike at random, about once in so many opcodes; 1 strikes at every opcode",
    )


def pytest_configure(config: pytest.Config) -> None:
    # A process that a script starts in the background ignores SIGINT, and under nohup SIGHUP. The
    # processes that the tests start would inherit that.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    for number in (signal.SIGHUP, signal.SIGQUIT):
        if signal.getsignal(number) == signal.SIG_IGN:
            signal.signal(number, lambda *_: None)
    config.pluginmanager.register(Limits(config))
    config.pluginmanager.register(Reaper())
    config.pluginmanager.register(Skips(config.getoption("--may-skip")))
    config.addinivalue_line(
        "markers",
        "backends(*names, on_demand=()): the devices that a contract test can run on, and those on"
        " which it takes so long that it runs only if --device names them",
    )
    config.addinivalue_line("markers", machines.MARKER)


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "backend" not in metafunc.fixturenames:
        return
    chosen = metafunc.config.getoption("--device")
    marker = metafunc.definition.get_closest_marker("backends")
    possible, late = (marker.args, marker.kwargs.get("on_demand", ())) if marker else (BACKENDS, ())
    names = [name for name in BACKENDS if name in possible and chosen in {None, name}]
    if chosen is None and "preload" in names and not HAS_DEVICE:
        # Run on the preloaded device instead of the real one; it skips if it is not preloaded.
        names = [name for name in names if name != "real"]
    if chosen is None:
        names = [name for name in names if name not in late]
    if "shared_guest" in metafunc.fixturenames:
        machines.parametrize_guests(metafunc, names)
    else:
        metafunc.parametrize("backend", names, indirect=True)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Deselect the tests that need another device or another machine."""
    chosen = config.getoption("--device")
    others = [
        item
        for item in items
        if (
            chosen and (marker := item.get_closest_marker("backends")) and chosen not in marker.args
        )
        or not machines.has(config, item)
    ]
    config.hook.pytest_deselected(items=others)
    items[:] = [item for item in items if item not in others]


@pytest.fixture(scope="session")
def unavailable(pytestconfig: pytest.Config) -> Callable[[str], NoReturn]:
    """End a test that lacks something: skip it, or fail it where ``--device real`` was given."""

    def end(reason: str) -> NoReturn:
        if pytestconfig.getoption("--device") == "real":
            pytest.fail(reason)
        pytest.skip(reason)

    return end


@pytest.fixture(scope="session", autouse=True)
def nothing_preloaded() -> None:
    """Start the tests' processes without preload and without a fake, unless a test sets them."""
    os.environ.pop("LD_PRELOAD", None)
    os.environ.pop(preload.VARIABLE, None)


@pytest.fixture(scope="session")
def shared_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SharedServer]:
    """The server of the tests that need no particular one."""
    shared = SharedServer(tmp_path_factory.mktemp("server") / "socket")
    yield shared
    shared.stop()


@pytest.fixture(scope="module")
def shared_guest(
    request: pytest.FixtureRequest, unavailable: Callable[[str], NoReturn]
) -> Iterator[SharedGuest]:
    """The guest of the tests on a real device that use one."""
    shared = SharedGuest(request.param or "none", unavailable)
    yield shared
    shared.stop()


@pytest.fixture
def server(shared_server: SharedServer) -> Iterator[ServerProcess]:
    """A server that tests share, one after the other; each must leave it clean."""
    with shared_server.lend() as lent:
        yield lent


@pytest.fixture
def own_server(tmp_path: Path) -> Iterator[ServerProcess]:
    """A server for one test, which may stop it, break it, or choose new domids."""
    with serving(tmp_path / "socket") as started:
        yield started


@pytest.fixture
def backend(request: pytest.FixtureRequest, unavailable: Callable[[str], NoReturn]) -> str:
    """The kind of device under test."""
    name: str = request.param
    if name == "real" and not HAS_DEVICE:
        unavailable(f"needs {XEN}: tools/test --xen runs this on one")
    if name == "preload" and not IS_PRELOADED:
        unavailable("needs the preloaded device: tools/test runs pytest under `xenevtchn fake run`")
    return name


@pytest.fixture
def backend_server(
    backend: str, shared_server: SharedServer, monkeypatch: pytest.MonkeyPatch
) -> Iterator[ServerProcess | None]:
    """The server of the backends that have one; the test must leave it clean.

    With preload, the processes that the test starts use it too.
    """
    if backend not in {"server", "preload"}:
        yield None
        return
    with shared_server.lend() as lent:
        if backend == "preload":
            monkeypatch.setenv("LD_PRELOAD", str(preload.OBJECT))
            monkeypatch.setenv(preload.VARIABLE, lent.name())
        yield lent


@pytest.fixture
def here(backend: str) -> Here:
    """The domain that the tests open devices in."""
    return real() if backend == "real" else FAKE


def name_of(backend: str, server: ServerProcess | None) -> str:
    """Return the name of a backend's device, in dom0."""
    if backend == "server" and server:
        return server.name()
    return "fake:" if backend == "fake" else DEVICE_NODE


@pytest.fixture
def device(backend: str, backend_server: ServerProcess | None) -> str:
    """The name of a device, in dom0."""
    return name_of(backend, backend_server)

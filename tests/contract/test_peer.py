"""A channel between the C library, libxenevtchn, and EventChannel."""

import shutil
import subprocess
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import NoReturn

import pytest

from pyxenevtchn import DOMID_SELF, EventChannel

from ..command import Running, running
from ..limits import TIMEOUT
from .events import expect

pytestmark = pytest.mark.backends("preload", "real")

SOURCE = Path(__file__).with_name("peer.c")
EVENTS = 20

Start = Callable[..., AbstractContextManager[Running]]


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    binary = tmp_path_factory.mktemp("peer") / "peer"
    compiler: list[str | Path] = ["cc", "-Wall", "-Werror", "-o", binary, SOURCE, "-lxenevtchn"]
    subprocess.run(compiler, timeout=TIMEOUT, check=True)
    return binary


@pytest.fixture
def start(unavailable: Callable[[str], NoReturn], request: pytest.FixtureRequest) -> Start:
    """Start the C peer, which prints a line when it is ready."""
    if not shutil.which("cc") or not Path("/usr/include/xenevtchn.h").exists():
        unavailable("needs a C compiler and Debian's libxen-dev")
    program: Path = request.getfixturevalue("program")
    return lambda *arguments: running(*map(str, arguments), program=program)


def test_the_c_library_answers_an_event_channel(channel: EventChannel, start: Start) -> None:
    port = channel.bind_unbound_port(DOMID_SELF)
    with start("echo", port, EVENTS) as process:
        assert process.line() == "connected"
        for _ in range(EVENTS):
            channel.notify(port)
            expect(channel, port)
            channel.unmask(port)
        assert process.end().status == 0


def test_an_event_channel_answers_the_c_library(channel: EventChannel, start: Start) -> None:
    with start("send", EVENTS) as process:
        port = channel.bind_interdomain(DOMID_SELF, int(process.line()))
        expect(channel, port)
        channel.unmask(port)
        channel.notify(port)  # tells the peer that it is connected
        for _ in range(EVENTS):
            expect(channel, port)
            channel.unmask(port)
            channel.notify(port)
        assert process.end() == (0, f"{EVENTS} echoes\n", "")

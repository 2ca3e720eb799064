"""The C library, libxenevtchn, at one end of a channel and EventChannel at the other."""

import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NoReturn

import pytest

from pyxenevtchn import DOMID_SELF, EventChannel

from .events import expect

pytestmark = pytest.mark.backends("real")

SOURCE = Path(__file__).with_name("peer.c")
EVENTS = 20


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    binary = tmp_path_factory.mktemp("peer") / "peer"
    subprocess.run(["cc", "-Wall", "-Werror", "-o", binary, SOURCE, "-lxenevtchn"], check=True)
    return binary


@pytest.fixture
def start(
    unavailable: Callable[[str], NoReturn], request: pytest.FixtureRequest
) -> Iterator[Callable[..., "subprocess.Popen[str]"]]:
    """Start the C peer, which says a line when it is connected."""
    if not shutil.which("cc") or not Path("/usr/include/xenevtchn.h").exists():
        unavailable("the peer needs a C compiler and Debian's libxen-dev")
    program: Path = request.getfixturevalue("program")
    processes: list[subprocess.Popen[str]] = []

    def run(*arguments: object) -> "subprocess.Popen[str]":
        process = subprocess.Popen(
            [program, *map(str, arguments)], stdout=subprocess.PIPE, text=True
        )
        processes.append(process)
        return process

    yield run
    for process in processes:
        process.kill()
        process.communicate()


def line(process: "subprocess.Popen[str]") -> str:
    assert process.stdout is not None
    return process.stdout.readline()


def test_the_c_library_echoes_ours(
    channel: EventChannel, start: Callable[..., "subprocess.Popen[str]"]
) -> None:
    port = channel.bind_unbound_port(DOMID_SELF)
    process = start("echo", port, EVENTS)
    assert line(process) == "connected\n"
    for _ in range(EVENTS):
        channel.notify(port)
        expect(channel, port)
        channel.unmask(port)
    assert process.wait() == 0


def test_ours_echoes_the_c_library(
    channel: EventChannel, start: Callable[..., "subprocess.Popen[str]"]
) -> None:
    process = start("send", EVENTS)
    port = channel.bind_interdomain(DOMID_SELF, int(line(process)))
    expect(channel, port)
    channel.unmask(port)
    channel.notify(port)  # tells the peer that somebody is there
    for _ in range(EVENTS):
        expect(channel, port)
        channel.unmask(port)
        channel.notify(port)
    assert line(process) == f"{EVENTS} echoes\n"
    assert process.wait() == 0

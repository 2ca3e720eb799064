"""The server's socket: private, for one server at a time, and removed when it ends."""

import errno
import os
import signal
import socket
import stat
from contextlib import ExitStack
from pathlib import Path

import pytest

from pyxenevtchn import EventChannel
from pyxenevtchn.fake.server.listener import listening

from ...command import run, running
from .process import ServerProcess, serving


@pytest.mark.parametrize("umask", [0o000, 0o022, 0o077])
def test_only_its_owner_may_use_the_socket_from_the_start(tmp_path: Path, umask: int) -> None:
    before = os.umask(umask)
    try:
        with listening(str(tmp_path / "socket")):
            assert stat.S_IMODE((tmp_path / "socket").stat().st_mode) == 0o600
    finally:
        os.umask(before)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("number", "status"), [(signal.SIGTERM, 0), (signal.SIGINT, 130)])
def test_a_signal_ends_the_server_and_removes_its_socket(
    tmp_path: Path, number: int, status: int
) -> None:
    with serving(tmp_path / "socket") as server, EventChannel.open(server.name()):
        server.process.send_signal(number)
        assert server.running.end().status == status
        assert list(tmp_path.iterdir()) == []


def test_a_dead_servers_socket_is_replaced(tmp_path: Path) -> None:
    with serving(tmp_path / "socket") as server:
        server.process.kill()
        server.running.end()
    assert (tmp_path / "socket").is_socket()
    with serving(tmp_path / "socket") as server, EventChannel.open(server.name()) as channel:
        assert channel.bind_unbound_port(0)


def test_a_live_servers_socket_is_refused(server: ServerProcess) -> None:
    result = run("fake", "serve", "--socket", server.path)
    assert (result.returncode, result.stdout) == (1, "")
    assert result.stderr == f"Error: {server.path}: a server listens there already\n"
    server.xen.ports(0)


def test_a_file_that_is_not_a_socket_is_left_alone(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_text("precious")
    result = run("fake", "serve", "--socket", file)
    assert (result.returncode, result.stdout) == (1, "")
    assert result.stderr == f"Error: {file}: there is a file that is not a socket\n"
    assert file.read_text() == "precious"


def test_a_missing_directory_is_a_one_line_error(tmp_path: Path) -> None:
    result = run("fake", "serve", "--socket", tmp_path / "none" / "socket")
    assert result.returncode == 1
    assert result.stderr == f"Error: {tmp_path / 'none'}: No such file or directory\n"


def test_a_path_that_is_too_long_is_an_error(tmp_path: Path) -> None:
    path = tmp_path / ("x" * 108)
    result = run("fake", "serve", "--socket", path)
    assert result.returncode == 1
    assert "longer than the path of a Unix socket" in result.stderr
    with pytest.raises(OSError, match="longer than") as caught:
        EventChannel.open(f"fake:unix:{path}")
    assert caught.value.errno == errno.ENAMETOOLONG


def test_a_socket_that_has_replaced_the_servers_is_not_removed(tmp_path: Path) -> None:
    path = tmp_path / "socket"
    with serving(path):
        path.unlink()
        with socket.socket(socket.AF_UNIX) as other:
            other.bind(str(path))
    assert path.is_socket()


def test_of_many_servers_that_start_at_once_one_gets_the_socket(tmp_path: Path) -> None:
    path = tmp_path / "socket"
    with serving(path) as first:
        first.process.kill()
        first.running.end()
    with ExitStack() as stack:
        starting = [
            stack.enter_context(running("fake", "serve", "--socket", path)) for _ in range(4)
        ]
        lines = [process.output.line_or_rest() for process in starting]
        assert sorted(lines) == ["", "", "", f"serving fake:unix:{path}\n"]
        with EventChannel.open(f"fake:unix:{path}"):
            pass
        for process in starting:
            process.signal(signal.SIGTERM)
            process.end()
        assert not path.exists()

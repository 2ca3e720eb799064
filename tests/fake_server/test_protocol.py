"""What a server bears from its connections, and who may have one."""

import contextlib
import errno
import os
import random
import resource
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from pyxenevtchn import DOMID_SELF, EventChannel, Request, Virq
from pyxenevtchn.fake.protocol import LINE_MAX, answer_value, connect, exchange
from pyxenevtchn.fake.server import may_connect

from ..limits import TIMEOUT
from .process import ServerProcess, serving


@pytest.fixture
def connection(server: ServerProcess) -> Iterator[socket.socket]:
    with connect(str(server.path)) as connection:
        connection.settimeout(TIMEOUT)
        yield connection


def ends(connection: socket.socket) -> bool:
    """Whether the server ends the connection, without another word."""
    try:
        return connection.recv(1) == b""
    except ConnectionResetError:
        return True


@pytest.mark.parametrize(
    "line",
    [
        b"",
        b"what",
        b"OPEN 0",
        b"open",
        b"open 0 0",
        b"open -1",
        b"open 4294967296",
        b"open 1_0",
        b"open \xc2\xb2",
        b"\xff",
        b" ports 0",
        b"ports  0",
        b"ports 0\r",
        b"attach 0123456789abcdef",
        b"read 4",
        b"write 00",
        b"write zz",
        b"notify_many 0000",
        b"notify 1",
        b"bind_interdomain 1",
        b"reset 1",
        b"_open 0",
        b"close",
        b"fail_next 0 read",
        b"raise_virq 1 0 0",
    ],
)
def test_a_line_that_means_nothing_ends_its_connection_alone(
    server: ServerProcess, connection: socket.socket, line: bytes
) -> None:
    with EventChannel.open(server.name()) as channel:
        connection.sendall(line + b"\n")
        assert ends(connection)
        assert channel.bind_virq(Virq.DEBUG)


def test_a_file_is_opened_once_on_a_connection(connection: socket.socket) -> None:
    assert exchange(connection, "open 0").startswith(b"ok ")
    connection.sendall(b"open 0\n")
    assert ends(connection)


def test_requests_are_for_connections_that_have_a_file(connection: socket.socket) -> None:
    exchange(connection, "open 0")
    connection.sendall(b"notify 1\n")
    assert ends(connection)


def test_an_endless_line_ends_its_connection(
    server: ServerProcess, connection: socket.socket
) -> None:
    with contextlib.suppress(ConnectionError):
        for _ in range(10_000):
            connection.sendall(b"0" * 1000)
    assert ends(connection)
    assert server.xen.ports(0)


def test_the_longest_line_is_obeyed_in_whatever_pieces(
    server: ServerProcess, connection: socket.socket
) -> None:
    key = exchange(connection, "open 0").split()[1].decode()
    with connect(str(server.path)) as calls:
        calls.sendall(f"attach {key}\n".encode())
        line = f"write {'00' * 4096}\n".encode()
        assert LINE_MAX - 64 < len(line) <= LINE_MAX
        for start in range(0, len(line), 1000):
            calls.sendall(line[start : start + 1000])
        assert calls.recv(100) == b"ok 4096\n"
        # Many lines at once are obeyed one after the other.
        calls.sendall(b"".join(b"bind_virq %d\n" % virq for virq in (1, 1, 11)))
        answers = b""
        while answers.count(b"\n") < 3:
            answers += calls.recv(1000)
        first, second, third = answers.split(b"\n")[:3]
        assert first.startswith(b"ok ")
        assert second == b"error %d" % errno.EEXIST
        assert third.startswith(b"ok ")


def test_a_client_that_does_not_listen_holds_up_itself_alone(
    server: ServerProcess, connection: socket.socket
) -> None:
    connection.setblocking(False)
    asked = 0
    with contextlib.suppress(BlockingIOError):
        while True:
            asked += connection.send(b"ports 0\n") // 8
    with EventChannel.open(server.name()) as channel:
        assert channel.bind_virq(Virq.DEBUG)
    resident = int(Path(f"/proc/{server.process.pid}/statm").read_text().split()[1])
    assert resident * os.sysconf("SC_PAGE_SIZE") < 1 << 27
    # And it gets every answer, when it listens.
    connection.settimeout(TIMEOUT)
    answered = 0
    while answered < asked:
        answered += connection.recv(1 << 20).count(b"\n")


@pytest.fixture
def calls(server: ServerProcess) -> Iterator[socket.socket]:
    """A connection about a file of dom0 that another connection has opened."""
    with connect(str(server.path)) as opener, connect(str(server.path)) as calls:
        key = exchange(opener, "open 0").split()[1].decode()
        calls.sendall(f"attach {key}\n".encode())
        yield calls


def attach_again(server: ServerProcess, channel: EventChannel) -> socket.socket:
    """Another connection about the file of a handle, which waits for an answer to no call."""
    key = channel._device._file._key  # type: ignore[attr-defined]  # noqa: SLF001
    calls = connect(str(server.path))
    calls.settimeout(TIMEOUT)
    calls.sendall(f"attach {key}\n".encode())
    return calls


def test_what_an_interrupted_read_took_is_there_again(server: ServerProcess) -> None:
    with EventChannel.open(server.name()) as channel:
        ports = [channel.bind_virq(virq) for virq in (Virq.DEBUG, Virq.ARGO)]
        for virq in (Virq.DEBUG, Virq.ARGO):
            server.xen.raise_virq(virq)
        with attach_again(server, channel) as calls:
            calls.sendall(b"read 4096\n")
            assert calls.recv(1, socket.MSG_PEEK)
            assert channel.poll(0) == 0
        assert channel.wait(TIMEOUT) == ports


def test_what_an_interrupted_bind_bound_is_free_again(server: ServerProcess) -> None:
    with EventChannel.open(server.name()) as channel:
        with attach_again(server, channel) as calls:
            calls.sendall(b"bind_virq 1\n")
            assert calls.recv(1, socket.MSG_PEEK)
        assert channel.bind_virq(Virq.DEBUG)


def test_an_answer_that_was_read_is_not_taken_back(server: ServerProcess) -> None:
    with EventChannel.open(server.name()) as channel:
        with attach_again(server, channel) as calls:
            assert exchange(calls, "bind_virq 1").startswith(b"ok ")
        server.xen.raise_virq(Virq.DEBUG)
        with pytest.raises(FileExistsError):
            channel.bind_virq(Virq.DEBUG)
        with attach_again(server, channel) as calls:
            assert len(answer_value(exchange(calls, "read 4096"))) == 8
        assert channel.wait(0) == []


def test_a_file_that_is_closed_ends_the_connections_about_it(server: ServerProcess) -> None:
    with EventChannel.open(server.name()) as channel:
        calls = attach_again(server, channel)
        exchange(calls, "notify_many ")
    with calls:
        assert ends(calls)


def test_the_servers_own_user_and_root_may_come() -> None:
    assert may_connect(os.geteuid())
    assert may_connect(0)
    assert not may_connect(os.geteuid() + 1)


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root: it becomes somebody else")
def test_another_user_is_turned_away() -> None:
    """Even where somebody has made the socket open to all."""
    program = """
import socket, sys

connection = socket.socket(socket.AF_UNIX)
connection.settimeout(20)
try:
    connection.connect(sys.argv[1])
except PermissionError:
    sys.exit("refused")
try:
    connection.send(b"open 0\\n")
except BrokenPipeError:
    pass
sys.exit(connection.recv(1000))
"""

    def as_nobody(*command: str | Path) -> "subprocess.CompletedProcess[str]":
        become = ["setpriv", "--reuid=65534", "--clear-groups"]
        return subprocess.run(
            [*become, *command], capture_output=True, text=True, timeout=TIMEOUT, check=False
        )

    # This one may be in a folder of root's.
    pythons = [[python, "-I", "-S", "-c"] for python in (sys.executable, "/usr/bin/python3")]
    usable = [python for python in pythons if not as_nobody(*python, "pass").returncode]
    if not usable:
        pytest.skip("needs an interpreter that another user can run")
    client = [*usable[0], program]
    # Where everybody can go.
    with TemporaryDirectory() as directory:
        Path(directory).chmod(0o755)
        with serving(Path(directory, "socket")) as server:
            assert as_nobody(*client, server.path).stderr == "refused\n"
            server.path.chmod(0o666)
            answer = f"error {errno.EACCES} the server is another user's"
            assert answer in as_nobody(*client, server.path).stderr


def test_a_server_without_descriptors_turns_clients_away_and_goes_on(
    own_server: ServerProcess,
) -> None:
    with EventChannel.open(own_server.name()) as channel:
        channel.bind_virq(Virq.DEBUG)
        resource.prlimit(own_server.process.pid, resource.RLIMIT_NOFILE, (20, 20))
        with contextlib.ExitStack() as stack:
            for _ in range(20):
                try:
                    stack.enter_context(EventChannel.open(own_server.name()))
                except OSError as error:
                    assert error.errno == errno.EMFILE  # noqa: PT017 - when is the server's affair
            assert channel.bind_unbound_port(DOMID_SELF)
        assert own_server.xen.ports(0)


WORDS = [
    *Request,
    *("open", "attach", "notify_many", "read", "write", "raise_virq", "ports", "create_domain"),
    *("destroy_domain", "fail_next", "check_clean", "none"),
]
ARGUMENTS = [
    *("0", "1", "5", "20", "21", "4095", "4096", "32751", "32752", "65536", "131072"),
    *("4294967295", "4294967296", "-1", "x", "", "00000000", "01000000ffffffff", "read"),
]


def test_no_line_disturbs_the_server(own_server: ServerProcess) -> None:
    chance = random.Random(1)  # noqa: S311 - no secret
    for _ in range(300):
        with connect(str(own_server.path)) as opener, connect(str(own_server.path)) as calls:
            key = exchange(opener, f"open {chance.choice((0, 0, 2))}").split()[1].decode()
            calls.sendall(f"attach {key}\n".encode())
            with contextlib.suppress(ConnectionError):
                for _ in range(chance.randint(1, 12)):
                    arguments = chance.choices(ARGUMENTS, k=chance.choice((0, 1, 1, 2, 3)))
                    exchange(calls, " ".join([chance.choice(WORDS), *arguments]))
    own_server.xen.check_clean()

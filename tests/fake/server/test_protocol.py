"""What a server bears from its connections, and who may have one."""

import contextlib
import errno
import os
import random
import resource
import select
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from pyxenevtchn import DOMID_SELF, EventChannel, Request, Virq
from pyxenevtchn.fake.server.protocol import (
    ANSWER,
    CALL,
    CALL_MAX,
    PAGE,
    REQUESTS,
    SIZE,
    STRUCTS,
    Call,
    connect,
    exchange,
)
from pyxenevtchn.fake.server.server import may_connect

from ...limits import TIMEOUT
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
        b"attach",
        b"attach 1",
        b"open 0\n" + CALL.pack(Call.READ, 4),
        b"notify 1",
        b"read 4",
        b"_open 0",
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


@pytest.fixture
def calls(server: ServerProcess) -> Iterator[socket.socket]:
    """A connection about a file of dom0."""
    with connect(str(server.path)) as calls:
        calls.settimeout(TIMEOUT)
        os.close(open_on(calls))
        yield calls


def open_on(connection: socket.socket, domid: int = 0) -> int:
    """Open a file; return its descriptor."""
    connection.sendall(b"open %d\n" % domid)
    answer, (fd,), _, _ = socket.recv_fds(connection, 1000, 1)
    assert answer.startswith(b"ok ")
    return fd


def number(request: Request) -> int:
    return REQUESTS.index(request)


def call(connection: socket.socket, what: int, data: bytes = b"") -> tuple[int, bytes]:
    """Make a call; return its result and the bytes of the answer."""
    connection.sendall(CALL.pack(what, len(data)) + data)
    return answer_on(connection)


def answer_on(connection: socket.socket) -> tuple[int, bytes]:
    head = connection.recv(ANSWER.size, socket.MSG_WAITALL)
    if not head:
        raise ConnectionResetError
    result, size = ANSWER.unpack(head)
    return result, connection.recv(size, socket.MSG_WAITALL) if result >= 0 and size else b""


@pytest.mark.parametrize(
    "data",
    [
        CALL.pack(8, 0),
        CALL.pack(0xFFFF_FFFF, 0),
        CALL.pack(Call.READ, 0),
        CALL.pack(Call.READ, 8) + bytes(8),
        CALL.pack(Call.NOTIFY_MANY, 2) + bytes(2),
        CALL.pack(number(Request.NOTIFY), 0),
        CALL.pack(number(Request.RESET), 4) + bytes(4),
        CALL.pack(number(Request.RESTRICT_DOMID), 4) + bytes(4),
        CALL.pack(Call.WRITE, PAGE + 4),
        CALL.pack(Call.WRITE, 0xFFFF_FFFF),
        CALL.pack(Call.WAIT, 4) + SIZE.pack(4),
    ],
)
def test_a_call_that_means_nothing_ends_its_connection_alone(
    server: ServerProcess, calls: socket.socket, data: bytes
) -> None:
    with EventChannel.open(server.name()) as channel:
        calls.sendall(data)
        with contextlib.suppress(BrokenPipeError):
            calls.sendall(CALL.pack(Call.READ, 4))  # one more, before any answer
        assert ends(calls)
        assert channel.bind_virq(Virq.DEBUG)


def test_an_endless_line_ends_its_connection(
    server: ServerProcess, connection: socket.socket
) -> None:
    with contextlib.suppress(ConnectionError):
        for _ in range(10_000):
            connection.sendall(b"0" * 1000)
    assert ends(connection)
    assert server.xen.ports(0)


def test_the_longest_call_is_answered_in_whatever_pieces(calls: socket.socket) -> None:
    data = CALL.pack(Call.WRITE, PAGE) + bytes(PAGE)
    assert len(data) == CALL_MAX
    for start in (0, 3, 8, 1000, 2001):
        calls.sendall(data[start : {0: 3, 3: 8, 8: 1000, 1000: 2001}.get(start, CALL_MAX)])
    assert answer_on(calls) == (PAGE, b"")


def test_many_lines_at_once_are_answered_one_after_the_other(connection: socket.socket) -> None:
    connection.sendall(b"create_domain 0 9\ncreate_domain - 9\ncheck_clean\n")
    answers = b""
    while answers.count(b"\n") < 3:
        answers += connection.recv(1000)
    refused, created, clean = answers.splitlines()
    assert refused.startswith(b"refused ")
    assert created.startswith(b"ok ")
    assert clean == b"ok"


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


def test_who_makes_calls_and_reads_no_answer_is_hung_up_on(calls: socket.socket) -> None:
    with contextlib.suppress(ConnectionError):
        calls.sendall(CALL.pack(Call.EXPLAIN, 0) * 10_000)
    poller = select.poll()
    poller.register(calls, 0)
    assert dict(poller.poll(TIMEOUT * 1000))[calls.fileno()] & select.POLLHUP


def attach_again(server: ServerProcess, fd: int) -> socket.socket:
    """Another connection about a file, which waits for an answer to no call."""
    calls = connect(str(server.path))
    calls.settimeout(TIMEOUT)
    socket.send_fds(calls, [b"attach\n"], [fd])
    return calls


def test_what_an_interrupted_read_took_is_there_again(server: ServerProcess) -> None:
    with EventChannel.open(server.name()) as channel:
        ports = [channel.bind_virq(virq) for virq in (Virq.DEBUG, Virq.ARGO)]
        for virq in (Virq.DEBUG, Virq.ARGO):
            server.xen.raise_virq(virq)
        with attach_again(server, channel.fileno()) as calls:
            calls.sendall(CALL.pack(Call.READ, 4) + SIZE.pack(4096))
            assert calls.recv(1, socket.MSG_PEEK)
            assert channel.poll(0) == 0
        assert channel.wait(TIMEOUT) == ports


def test_what_an_interrupted_bind_bound_is_free_again(server: ServerProcess) -> None:
    bind = number(Request.BIND_VIRQ), STRUCTS[Request.BIND_VIRQ].pack(Virq.DEBUG)
    with EventChannel.open(server.name()) as channel:
        with attach_again(server, channel.fileno()) as calls:
            calls.sendall(CALL.pack(bind[0], 4) + bind[1])
            assert calls.recv(1, socket.MSG_PEEK)
        assert channel.bind_virq(Virq.DEBUG)


def test_an_answer_that_was_read_is_not_taken_back(server: ServerProcess) -> None:
    bind = number(Request.BIND_VIRQ), STRUCTS[Request.BIND_VIRQ].pack(Virq.DEBUG)
    with EventChannel.open(server.name()) as channel:
        with attach_again(server, channel.fileno()) as calls:
            assert call(calls, *bind)[0] > 0
        server.xen.raise_virq(Virq.DEBUG)
        with pytest.raises(FileExistsError):
            channel.bind_virq(Virq.DEBUG)
        with attach_again(server, channel.fileno()) as calls:
            assert call(calls, Call.READ, SIZE.pack(4096))[0] == 4
        assert channel.wait(0) == []


def test_a_wait_is_answered_once_something_is_there(server: ServerProcess) -> None:
    with EventChannel.open(server.name()) as channel:
        port = channel.bind_virq(Virq.DEBUG)
        with (
            attach_again(server, channel.fileno()) as calls,
            attach_again(server, channel.fileno()) as given_up,
            attach_again(server, channel.fileno()) as later,
        ):
            for each in (given_up, calls, later):
                each.sendall(CALL.pack(Call.WAIT, 4) + SIZE.pack(4))
            given_up.close()
            server.xen.raise_virq(Virq.DEBUG)
            assert answer_on(calls) == (4, SIZE.pack(port))
            channel.unmask(port)
            server.xen.raise_virq(Virq.DEBUG)
            assert answer_on(later) == (4, SIZE.pack(port))
            # What is there already is given at once.
            channel.unmask(port)
            server.xen.raise_virq(Virq.DEBUG)
            assert call(later, Call.WAIT, SIZE.pack(4)) == (4, SIZE.pack(port))


def test_a_call_is_undone(server: ServerProcess) -> None:
    undone = (-errno.ECANCELED, b"")
    with (
        EventChannel.open(server.name()) as channel,
        attach_again(server, channel.fileno()) as calls,
    ):
        # Nothing was given, or what was given is taken back.
        assert call(calls, Call.UNDO) == undone
        assert call(calls, number(Request.BIND_VIRQ), SIZE.pack(Virq.DEBUG))[0] > 0
        assert call(calls, Call.UNDO) == undone
        assert call(calls, Call.UNDO) == undone
        port = channel.bind_virq(Virq.DEBUG)
        # A wait is given up, and what comes then is others'.
        calls.sendall(CALL.pack(Call.WAIT, 4) + SIZE.pack(4))
        assert call(calls, Call.UNDO) == undone
        server.xen.raise_virq(Virq.DEBUG)
        assert call(calls, Call.READ, SIZE.pack(4)) == (4, SIZE.pack(port))
        assert call(calls, Call.UNDO) == undone
        assert channel.wait(0) == [port]


def test_a_wait_ends_with_its_domain(server: ServerProcess) -> None:
    domid = server.xen.create_domain()
    with (
        EventChannel.open(server.name(domid)) as channel,
        attach_again(server, channel.fileno()) as calls,
    ):
        calls.sendall(CALL.pack(Call.WAIT, 4) + SIZE.pack(4))
        server.xen.destroy_domain(domid)
        assert answer_on(calls) == (-errno.ENODEV, b"")
        assert call(calls, Call.EXPLAIN) == (0, b"domain %d was destroyed" % domid)


def is_open(server: ServerProcess) -> bool:
    """Whether any file is; what was closed before is closed."""
    try:
        server.xen.check_clean()
    except AssertionError:
        return True
    return False


def test_a_file_is_open_as_long_as_a_descriptor_of_it_is_anywhere(server: ServerProcess) -> None:
    with connect(str(server.path)) as connection:
        fd = open_on(connection)
        here, there = socket.socketpair()
        with here, there:
            socket.send_fds(here, [b"\0"], [fd])
            connection.close()
            os.close(fd)
            assert is_open(server)  # it is under way
            _, (fd,), _, _ = socket.recv_fds(there, 1, 1)
    assert is_open(server)
    with attach_again(server, fd) as calls:
        assert call(calls, number(Request.BIND_VIRQ), SIZE.pack(Virq.DEBUG))[0] > 0
        server.xen.raise_virq(Virq.DEBUG)
    # Shown while nobody is connected, and taken by the next who is.
    assert select.select([fd], [], [], TIMEOUT)[0]
    with attach_again(server, fd) as calls:
        assert call(calls, Call.READ, SIZE.pack(4))[0] == 4
        assert not select.select([fd], [], [], 0)[0]
    os.close(fd)
    assert not is_open(server)


def test_a_file_nobody_takes_is_closed(server: ServerProcess) -> None:
    with connect(str(server.path)) as connection:
        connection.sendall(b"open 0\n")
        assert connection.recv(1, socket.MSG_PEEK)
        assert is_open(server)
    assert not is_open(server)


def test_who_closes_can_wait_until_the_file_is(server: ServerProcess) -> None:
    with connect(str(server.path)) as connection:
        os.close(open_on(connection))
        assert call(connection, number(Request.BIND_VIRQ), SIZE.pack(Virq.DEBUG))[0] > 0
        connection.sendall(CALL.pack(Call.CLOSE, 0))
        assert ends(connection)
        assert not is_open(server)


def test_a_descriptor_of_something_else_is_none_of_a_file(server: ServerProcess) -> None:
    with socket.socket() as stranger, attach_again(server, stranger.fileno()) as connection:
        assert ends(connection)


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
    *("open", "attach", "notify", "raise_virq", "ports", "create_domain", "destroy_domain"),
    *("fail_next", "check_clean", "configuration", "set_virq_handler", "deliver"),
    *("connect_static", "pause_domain", "unpause_domain", "checkpoint_domain"),
    *("shutdown_domain", "crash_domain", "save_domain", "restore_domain", "none"),
]
ARGUMENTS = [
    *("0", "1", "5", "20", "21", "4095", "4096", "32751", "32752", "65536", "131072"),
    *("4294967295", "4294967296", "-1", "-", "x", "", "read", "notify"),
]
FIELDS = [0, 1, 5, 20, 21, 4095, 4096, 32751, 32752, 65536, 131072, 2**32 - 1]


def test_nothing_disturbs_the_server(own_server: ServerProcess) -> None:
    chance = random.Random(1)  # noqa: S311 - no secret
    for _ in range(300):
        with connect(str(own_server.path)) as calls, connect(str(own_server.path)) as control:
            os.close(open_on(calls, chance.choice((0, 0, 2))))
            for connection in (calls, control):
                connection.settimeout(TIMEOUT)
            with contextlib.suppress(ConnectionError):
                for _ in range(chance.randint(1, 12)):
                    what = chance.choice((*range(9), Call.READ, Call.WRITE, Call.NOTIFY_MANY))
                    data = b"".join(
                        SIZE.pack(n) for n in chance.choices(FIELDS, k=chance.choice((1, 1, 2)))
                    )
                    call(calls, what, data)
            with contextlib.suppress(ConnectionError):
                for _ in range(chance.randint(1, 12)):
                    arguments = chance.choices(ARGUMENTS, k=chance.choice((0, 1, 1, 2, 3)))
                    exchange(control, " ".join([chance.choice(WORDS), *arguments]))
    own_server.xen.check_clean()

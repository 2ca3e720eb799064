"""Connections that break the protocol, or do not read, disturb no other."""

import contextlib
import os
import random
import select
from collections.abc import Iterator
from pathlib import Path

import pytest

from pyxenevtchn import EventChannel, Request, Virq
from pyxenevtchn.fake.server.protocol import (
    CALL,
    CALL_MAX,
    PAGE,
    SIZE,
    Call,
    connect,
    exchange,
)
from pyxenevtchn.fake.sockets import Socket

from ...limits import TIMEOUT
from .connections import answer_on, call, ends, number, open_on
from .process import ServerProcess


@pytest.fixture
def connection(server: ServerProcess) -> Iterator[Socket]:
    with connect(str(server.path)) as connection:
        connection.settimeout(TIMEOUT)
        yield connection


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
def test_a_malformed_line_ends_only_its_connection(
    server: ServerProcess, connection: Socket, line: bytes
) -> None:
    with EventChannel.open(server.name()) as channel:
        connection.sendall(line + b"\n")
        assert ends(connection)
        assert channel.bind_virq(Virq.DEBUG)


@pytest.fixture
def calls(server: ServerProcess) -> Iterator[Socket]:
    """A connection about a file of dom0."""
    with connect(str(server.path)) as calls:
        calls.settimeout(TIMEOUT)
        os.close(open_on(calls))
        yield calls


@pytest.mark.parametrize(
    "data",
    [
        CALL.pack(8, 0),
        CALL.pack(0xFFFF_FFFF, 0),
        CALL.pack(Call.READ, 0),
        CALL.pack(Call.READ, 8) + bytes(8),
        CALL.pack(number(Request.NOTIFY), 0),
        CALL.pack(number(Request.RESET), 4) + bytes(4),
        CALL.pack(number(Request.RESTRICT_DOMID), 4) + bytes(4),
        CALL.pack(Call.WRITE, PAGE + 4),
        CALL.pack(Call.WRITE, 0xFFFF_FFFF),
        CALL.pack(Call.WAIT, 4) + SIZE.pack(4),
    ],
)
def test_a_malformed_call_ends_only_its_connection(
    server: ServerProcess, calls: Socket, data: bytes
) -> None:
    with EventChannel.open(server.name()) as channel:
        calls.sendall(data)
        with contextlib.suppress(BrokenPipeError):
            calls.sendall(CALL.pack(Call.READ, 4))  # one more, before any answer
        assert ends(calls)
        assert channel.bind_virq(Virq.DEBUG)


def test_an_endless_line_ends_its_connection(server: ServerProcess, connection: Socket) -> None:
    with contextlib.suppress(ConnectionError):
        for _ in range(10_000):
            connection.sendall(b"0" * 1000)
    assert ends(connection)
    assert server.xen.ports(0)


def test_the_longest_call_may_come_in_pieces(calls: Socket) -> None:
    data = CALL.pack(Call.WRITE, PAGE) + bytes(PAGE)
    assert len(data) == CALL_MAX
    for start in (0, 3, 8, 1000, 2001):
        calls.sendall(data[start : {0: 3, 3: 8, 8: 1000, 1000: 2001}.get(start, CALL_MAX)])
    assert answer_on(calls) == (PAGE, b"")


def test_many_lines_at_once_are_answered_in_order(connection: Socket) -> None:
    connection.sendall(b"create_domain 0 9\ncreate_domain - 9\ncheck_clean\n")
    answers = b""
    while answers.count(b"\n") < 3:
        answers += connection.recv(1000)
    refused, created, clean = answers.splitlines()
    assert refused.startswith(b"refused ")
    assert created.startswith(b"ok ")
    assert clean == b"ok"


def test_a_client_that_does_not_read_delays_only_itself(
    server: ServerProcess, connection: Socket
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
    # It gets every answer when it reads again.
    connection.settimeout(TIMEOUT)
    answered = 0
    while answered < asked:
        answered += connection.recv(1 << 20).count(b"\n")


def test_a_client_that_reads_no_answers_to_calls_is_disconnected(calls: Socket) -> None:
    with contextlib.suppress(ConnectionError):
        calls.sendall(CALL.pack(Call.EXPLAIN, 0) * 10_000)
    poller = select.poll()
    poller.register(calls, 0)
    assert dict(poller.poll(TIMEOUT * 1000))[calls.fileno()] & select.POLLHUP


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


def test_random_calls_and_lines_do_not_disturb_the_server(own_server: ServerProcess) -> None:
    chance = random.Random(1)  # noqa: S311 - no secret
    for _ in range(300):
        with connect(str(own_server.path)) as calls, connect(str(own_server.path)) as control:
            os.close(open_on(calls, chance.choice((0, 0, 2))))
            for connection in (calls, control):
                connection.settimeout(TIMEOUT)
            with contextlib.suppress(ConnectionError):
                for _ in range(chance.randint(1, 12)):
                    what = chance.choice((*range(9), Call.READ, Call.WRITE))
                    data = b"".join(
                        SIZE.pack(n) for n in chance.choices(FIELDS, k=chance.choice((1, 1, 2)))
                    )
                    call(calls, what, data)
            with contextlib.suppress(ConnectionError):
                for _ in range(chance.randint(1, 12)):
                    arguments = chance.choices(ARGUMENTS, k=chance.choice((0, 1, 1, 2, 3)))
                    exchange(control, " ".join([chance.choice(WORDS), *arguments]))
    own_server.xen.check_clean()

"""How long a file is open in the server."""

import os
import select
import socket

from pyxenevtchn import Request, Virq
from pyxenevtchn.fake.server.protocol import (
    CALL,
    SIZE,
    Call,
    connect,
)

from ...limits import TIMEOUT
from .connections import attach_again, call, ends, number, open_on
from .process import ServerProcess


def is_open(server: ServerProcess) -> bool:
    """Return whether the server has an open file, after all closes before this."""
    try:
        server.xen.check_clean()
    except AssertionError:
        return True
    return False


def test_a_file_is_open_while_any_process_has_a_descriptor_of_it(server: ServerProcess) -> None:
    with connect(str(server.path)) as connection:
        fd = open_on(connection)
        here, there = socket.socketpair()
        with here, there:
            socket.send_fds(here, [b"\0"], [fd])
            connection.close()
            os.close(fd)
            assert is_open(server)  # its descriptor is in the socket
            _, (fd,), _, _ = socket.recv_fds(there, 1, 1)
    assert is_open(server)
    with attach_again(server, fd) as calls:
        assert call(calls, number(Request.BIND_VIRQ), SIZE.pack(Virq.DEBUG))[0] > 0
        server.xen.raise_virq(Virq.DEBUG)
    # The event is shown while the file has no connection, and read by the next one.
    assert select.select([fd], [], [], TIMEOUT)[0]
    with attach_again(server, fd) as calls:
        assert call(calls, Call.READ, SIZE.pack(4))[0] == 4
        assert not select.select([fd], [], [], 0)[0]
    os.close(fd)
    assert not is_open(server)


def test_a_file_whose_descriptor_nobody_receives_is_closed(server: ServerProcess) -> None:
    with connect(str(server.path)) as connection:
        connection.sendall(b"open 0\n")
        assert connection.recv(1, socket.MSG_PEEK)
        assert is_open(server)
    assert not is_open(server)


def test_after_close_the_connection_ends_when_the_file_is_closed(server: ServerProcess) -> None:
    with connect(str(server.path)) as connection:
        os.close(open_on(connection))
        assert call(connection, number(Request.BIND_VIRQ), SIZE.pack(Virq.DEBUG))[0] > 0
        connection.sendall(CALL.pack(Call.CLOSE, 0))
        assert ends(connection)
        assert not is_open(server)


def test_to_attach_with_another_descriptor_ends_the_connection(server: ServerProcess) -> None:
    with socket.socket() as stranger, attach_again(server, stranger.fileno()) as connection:
        assert ends(connection)

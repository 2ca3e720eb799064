"""Connections to a server, without the client of the library."""

import socket

from pyxenevtchn import Request
from pyxenevtchn.fake.server.protocol import (
    ANSWER,
    CALL,
    REQUESTS,
    connect,
)
from pyxenevtchn.fake.sockets import Socket

from ...limits import TIMEOUT
from .process import ServerProcess


def ends(connection: Socket) -> bool:
    """Return whether the server ends the connection without an answer."""
    try:
        return connection.recv(1) == b""
    except ConnectionResetError:
        return True


def open_on(connection: Socket, domid: int = 0) -> int:
    """Open a file; return its descriptor."""
    connection.sendall(b"open %d\n" % domid)
    answer, (fd,) = connection.receive_fds(1000, 1)
    assert answer.startswith(b"ok ")
    return fd


def number(request: Request) -> int:
    """Return the number of a request."""
    return REQUESTS.index(request)


def call(connection: Socket, what: int, data: bytes = b"") -> tuple[int, bytes]:
    """Make a call; return its result and the bytes of the answer."""
    connection.sendall(CALL.pack(what, len(data)) + data)
    return answer_on(connection)


def answer_on(connection: Socket) -> tuple[int, bytes]:
    """Receive an answer; return its result and its bytes."""
    head = connection.recv(ANSWER.size, socket.MSG_WAITALL)
    if not head:
        raise ConnectionResetError
    result, size = ANSWER.unpack(head)
    return result, connection.recv(size, socket.MSG_WAITALL) if result >= 0 and size else b""


def attach_again(server: ServerProcess, fd: int) -> Socket:
    """Make another connection about a file."""
    calls = connect(str(server.path))
    calls.settimeout(TIMEOUT)
    calls.send_fds(b"attach\n", [fd])
    return calls

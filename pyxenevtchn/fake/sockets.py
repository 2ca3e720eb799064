"""Unix sockets whose calls are always the system's.

gevent and eventlet replace Python's socket module by one that waits in their hub, from which other
greenlets run. A fake's sockets never wait for another process of the user's, and a switch of
greenlets in the middle of a model's call would break it.
"""

import _socket
import socket
from collections.abc import Sequence
from typing import Self, cast

STREAM, DATAGRAM = _socket.SOCK_STREAM, _socket.SOCK_DGRAM


class Socket(_socket.socket):
    """A Unix socket, closed by the end of its with statement."""

    def __init__(self, kind: int = STREAM, fileno: int | None = None) -> None:
        """Create a socket, or take over a descriptor of one."""
        super().__init__(_socket.AF_UNIX, kind, 0, fileno)
        # Overrides socket.setdefaulttimeout: no call here may time out.
        self.settimeout(None)

    def send_fds(self, data: bytes, fds: Sequence[int]) -> None:
        """Send bytes and descriptors."""
        socket.send_fds(cast("socket.socket", self), [data], fds)

    def receive_fds(self, size: int, most: int) -> tuple[bytes, list[int]]:
        """Receive at most ``size`` bytes, and descriptors, which are closed on exec."""
        itself = cast("socket.socket", self)
        data, fds, _, _ = socket.recv_fds(itself, size, most, socket.MSG_CMSG_CLOEXEC)
        return data, fds

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def pair() -> tuple[Socket, Socket]:
    """Create two datagram sockets that are connected to each other."""
    one, other = _socket.socketpair(_socket.AF_UNIX, DATAGRAM)
    return Socket(DATAGRAM, one.detach()), Socket(DATAGRAM, other.detach())

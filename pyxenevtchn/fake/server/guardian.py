"""The server's guardian: a process that hangs up on the clients when the server is gone.

The kernel tells nobody who polls one end of a pair of datagram sockets that the other end is gone.
So this holds a duplicate of the inner end of every client's descriptor, and when the server ends,
be it by SIGKILL, connects them all elsewhere: then the clients' poll as POLLERR (see descriptor),
and what is read next fails. It holds no outer end: that would keep a file open.

The server starts this file as a program: it imports nothing of the package.
"""

import contextlib
import socket
import subprocess
import sys


class Guardian:
    """The server's side: the process, and a socket to it."""

    def __init__(self) -> None:
        # Of this kind, a message is a whole one and the end of the other side is seen.
        self._socket, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            # In a session of its own: no signal to the server's process group is for it.
            self._process = subprocess.Popen(  # noqa: S603 - this file
                [sys.executable, "-I", "-S", __file__],
                stdin=theirs.fileno(),
                stdout=subprocess.DEVNULL,
                start_new_session=True,
            )

    def fileno(self) -> int:
        """Return a descriptor that is readable when the process is gone."""
        return self._socket.fileno()

    def hold(self, key: str, fd: int) -> None:
        """Have it hang up in the end on whom the inner end ``fd`` belongs to."""
        socket.send_fds(self._socket, [key.encode()], [fd])

    def drop(self, key: str) -> None:
        """Have it forget the descriptor, if it is there still."""
        with contextlib.suppress(OSError):
            self._socket.send(key.encode())

    def close(self) -> None:
        """Have it hang up on everybody whom it holds, and wait until it has."""
        self._socket.close()
        self._process.wait()


def guard(server: socket.socket) -> None:
    """Hold what the server sends until it ends, then hang up."""
    held: dict[bytes, socket.socket] = {}
    while True:
        key, fds, _, _ = socket.recv_fds(server, 64, 1)
        if fds:
            held[key] = socket.socket(fileno=fds[0])
        elif key:
            held.pop(key).close()
        else:
            break
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as stranger:
        stranger.bind("")
        for inner in held.values():
            with contextlib.suppress(OSError):
                inner.connect(stranger.getsockname())


if __name__ == "__main__":
    guard(socket.socket(fileno=sys.stdin.fileno()))

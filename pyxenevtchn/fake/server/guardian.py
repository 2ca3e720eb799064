"""The server's guardian: a process that disconnects the clients when the server has ended.

The kernel wakes no poll of a datagram socket when the other end of its pair is closed. So this
process holds a duplicate of the inner end of every client's descriptor. When the server ends, even
by SIGKILL, it connects them all elsewhere: the clients' descriptors poll as POLLERR (see
descriptor), and their next read fails. It holds no outer end, which would keep a file open.

The server starts this file as a program, so it imports nothing of the package.
"""

import contextlib
import socket
import subprocess
import sys


class Guardian:
    """The server's side: the process, and a socket to it."""

    def __init__(self) -> None:
        # SOCK_SEQPACKET keeps messages whole, and reports the end of the other side.
        self._socket, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            # In a session of its own: a signal to the server's process group must not reach it.
            self._process = subprocess.Popen(  # noqa: S603 - this file
                [sys.executable, "-I", "-S", __file__],
                stdin=theirs.fileno(),
                stdout=subprocess.DEVNULL,
                start_new_session=True,
            )

    def fileno(self) -> int:
        """Return a descriptor that is readable when the process has ended."""
        return self._socket.fileno()

    def hold(self, key: str, fd: int) -> None:
        """Pass it ``fd``, the inner end of a client's descriptor, under a key."""
        socket.send_fds(self._socket, [key.encode()], [fd])

    def drop(self, key: str) -> None:
        """Make it drop a descriptor, if the process still runs."""
        with contextlib.suppress(OSError):
            self._socket.send(key.encode())

    def close(self) -> None:
        """Make it disconnect all clients, and wait for its end."""
        self._socket.close()
        self._process.wait()


def guard(server: socket.socket) -> None:
    """Hold the descriptors that the server sends; when it ends, disconnect them."""
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

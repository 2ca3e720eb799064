"""A file of a fake driver in another process: what ``fake:unix:PATH`` opens (see protocol).

The device is a FakeDevice like any; the file behind it is in the server.
"""

import contextlib
import errno
import os
import socket
import threading
from collections import deque

from ..abi import PORT_BYTES, Packed, Request
from .descriptor import Descriptor
from .device import Description, FakeDevice
from .protocol import LINE_MAX, PAGE, answer_value, connect, exchange, send, server_gone

# ECONNREFUSED, ECONNRESET, EPIPE; and ENOENT, where the server has removed its socket.
_GONE = (ConnectionError, FileNotFoundError)


class RemoteFile:
    """A file that a server has open for us (see device.File).

    Every call takes a connection that is used by nobody else and gives it back when the answer has
    been read; one that is interrupted by an exception throws it away, and the server takes back
    what the call did not get. So threads and signal handlers never meet another call's answer.
    """

    def __init__(self, path: str, key: str, opener: socket.socket) -> None:
        self._path = path
        self._key = key
        # The server closes the file when this connection ends.
        self._opener = opener
        # With one to begin with: no later call fails for want of a descriptor.
        self._idle = deque([self._attach()])

    def ioctl(self, request: Request, *arguments: int) -> int:
        """Make a request."""
        return int(self._call(" ".join([request, *map(str, arguments)])))

    def notify_many(self, ports: Packed) -> tuple[int, int]:
        """Make NOTIFY of each port, of 32-bit words, until one fails (see device.Device)."""
        done = 0
        for start in range(0, len(ports), PAGE):
            sent, number = self._call(f"notify_many {ports[start : start + PAGE].hex()}").split()
            done += int(sent)
            if int(number):
                return done, int(number)
        return done, 0

    def read(self, size: int) -> bytes:
        """Take events, never waiting."""
        return bytes.fromhex(self._call(f"read {min(size, PAGE)}"))

    def write(self, data: Packed) -> int:
        """Enable ports again."""
        whole = min(len(data) & -PORT_BYTES, PAGE)
        return int(self._call(f"write {data[:whole].hex()}"))

    def release(self) -> None:
        """Have the server close the file, and wait until it has."""
        self._drop_idle()
        with self._opener, contextlib.suppress(ConnectionError):
            self._opener.shutdown(socket.SHUT_WR)
            self._opener.recv(1)

    def disown(self) -> None:
        """Leave it, in a child process, to the parent."""
        self._drop_idle()
        self._opener.close()

    def _drop_idle(self) -> None:
        while self._idle:
            self._idle.pop().close()

    def _call(self, line: str) -> str:
        try:
            try:
                connection = self._idle.pop()
            except IndexError:
                connection = self._attach()
            try:
                answer = exchange(connection, line)
            except BaseException:
                connection.close()
                raise
        except _GONE:
            raise server_gone() from None
        self._idle.append(connection)
        return answer_value(answer)

    def _attach(self) -> socket.socket:
        connection = connect(self._path)
        send(connection, f"attach {self._key}")
        return connection


def open_remote(
    path: str, domid: int, name: str, *, nonblocking: bool, cloexec: bool
) -> FakeDevice:
    """Open a file in a domain of a server, which is created if there is none.

    Args:
        path: the server's socket.
        domid: the domain.
        name: the device's name, for messages.
        nonblocking: whether ``read`` fails where it would have to wait.
        cloexec: whether the descriptor is closed when the process executes another program.

    Raises:
        OSError: nobody serves there (ENOENT, ECONNREFUSED), or not us (EACCES); EMFILE.
    """
    try:
        description = _open_description(path, domid)
    except OSError as error:
        error.filename = name
        raise
    return FakeDevice.open(description, name, nonblocking=nonblocking, cloexec=cloexec)


def _open_description(path: str, domid: int) -> Description:
    with contextlib.ExitStack() as stack:
        opener = stack.enter_context(connect(path))
        key, space, descriptor = _open(opener, domid)
        stack.callback(descriptor.close)
        file = RemoteFile(path, key, opener)
        stack.pop_all()
    return Description(file, descriptor, threading.RLock(), space)


def _open(opener: socket.socket, domid: int) -> tuple[str, str, Descriptor]:
    send(opener, f"open {domid}")
    answer, fds, _, _ = socket.recv_fds(opener, LINE_MAX, 1, socket.MSG_CMSG_CLOEXEC)
    if not answer:
        raise server_gone()
    key, space = answer_value(answer).split()
    if not fds:
        # The kernel had no number left to give it here.
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))
    return key, space, Descriptor(socket.socket(fileno=fds[0]))

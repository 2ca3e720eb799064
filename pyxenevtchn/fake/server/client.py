"""A file of a fake driver in another process: what ``fake:unix:PATH`` opens (see protocol).

The device is an ordinary FakeDevice; its file is in the server.
"""

import contextlib
import errno
import os
import threading
from collections import deque

from ...abi import PORT_BYTES, Packed, Request, pack_ports, unpack_ports
from ...ports import Port
from ..descriptor import Descriptor
from ..device import Description, FakeDevice
from ..model.failure import KernelBug, Refusal
from ..sockets import DATAGRAM, Socket
from .protocol import (
    ANSWER,
    CALL,
    CALL_MAX,
    KERNEL_BUG,
    LINE_MAX,
    PAGE,
    REFUSED,
    REQUESTS,
    SIZE,
    STRUCTS,
    Call,
    answer_value,
    connect,
    failure,
    send,
    server_gone,
)
from .remote import RemoteHypervisor

# ECONNREFUSED, ECONNRESET, EPIPE; and ENOENT, where the server has removed its socket.
_GONE = (ConnectionError, FileNotFoundError)

_NUMBERS = {request: number for number, request in enumerate(REQUESTS)}


class RemoteFile:
    """A file that is open in a server (see device.File).

    Every call takes a connection that no other call uses, and gives it back when the answer has
    been read. A call that is interrupted by an exception closes its connection, and the server
    undoes the call. So threads and signal handlers never read another call's answer.

    Args:
        path: the server's socket.
        connection: the one on which the file was opened.
        descriptor: polls as the file does.
    """

    # Only the server knows.
    stale = False

    def __init__(self, path: str, connection: Socket, descriptor: Descriptor) -> None:
        self._path = path
        self._descriptor = descriptor
        self._idle = deque([connection])

    def ioctl(self, request: Request, *arguments: int) -> int:
        """Make a request."""
        return self._call(_NUMBERS[request], STRUCTS[request].pack(*arguments))[0]

    def take(self, room: int) -> list[int]:
        """Take events, at most ``room``, without waiting."""
        return unpack_ports(self.read(PORT_BYTES * room))

    def enable(self, ports: list[int]) -> None:
        """Enable ports, at most a page, again."""
        self.write(pack_ports(ports))

    def read(self, size: int) -> bytes:
        """Take events as the system call does, without waiting."""
        return self._call(Call.READ, SIZE.pack(min(size, PAGE)))[1]

    def write(self, data: Packed) -> int:
        """Enable ports as the system call does; return the bytes taken."""
        whole = min(len(data) & -PORT_BYTES, PAGE)
        return self._call(Call.WRITE, data[:whole])[0]

    def port_table(self) -> tuple[Port, ...]:
        """List the ports of the domain."""
        return RemoteHypervisor(self._path).ports(self.domid())

    def domid(self) -> int:
        """Return the domid that the domain has now."""
        return self._call(Call.DOMID, b"")[0]

    def release(self) -> None:
        """Tell the server that the descriptors are closed; wait until it has closed the file.

        Raises:
            KernelBug: a real kernel would have crashed.
        """
        bug = b""
        while self._idle:
            with self._idle.pop() as connection, contextlib.suppress(ConnectionError):
                connection.sendall(CALL.pack(Call.CLOSE, 0))
                bug += connection.recv(CALL_MAX)
        if bug:
            raise KernelBug(bug[ANSWER.size :].decode())

    def disown(self) -> None:
        """After a fork: leave the file to the parent process."""
        while self._idle:
            self._idle.pop().close()

    def _call(self, what: int, data: Packed) -> tuple[int, bytes]:
        try:
            try:
                connection = self._idle.pop()
            except IndexError:
                connection = self._attach()
            try:
                result, size, rest = _exchange(connection, what, data)
                if result < 0 and size:
                    _, _, rest = _exchange(connection, Call.EXPLAIN, b"")
            except BaseException:
                connection.close()
                raise
        except _GONE:
            raise Refusal(errno.ECONNRESET, os.strerror(errno.ECONNRESET)) from None
        self._idle.append(connection)
        if result < 0:
            raise _failure(-result, rest.decode())
        return result, rest

    def _attach(self) -> Socket:
        connection = connect(self._path)
        try:
            connection.send_fds(b"attach\n", [self._descriptor.fileno()])
        except BaseException:
            connection.close()
            raise
        return connection


def _exchange(connection: Socket, what: int, data: Packed) -> tuple[int, int, bytes]:
    """Make a call; return the two words of the answer, and its bytes."""
    connection.sendall(CALL.pack(what, len(data)) + data)
    answer = connection.recv(CALL_MAX)
    while True:
        if len(answer) >= ANSWER.size:
            result, size = ANSWER.unpack_from(answer)
            if result < 0 or len(answer) == ANSWER.size + size:
                return result, size, answer[ANSWER.size :]
        more = connection.recv(CALL_MAX)
        if not more:
            raise server_gone()
        answer += more


def _failure(number: int, note: str) -> Exception:
    if number == KERNEL_BUG:
        return KernelBug(note)
    if number == REFUSED:
        return ValueError(note)
    return failure(number, note)


def open_remote(
    path: str, domid: int, name: str, *, nonblocking: bool, cloexec: bool
) -> FakeDevice:
    """Open a file in a domain of a server, which is created if there is none.

    Args:
        path: the server's socket.
        domid: the domain.
        name: the device's name, for messages.
        nonblocking: whether ``read`` fails where it would wait.
        cloexec: whether the descriptor is closed when the process executes another program.

    Raises:
        OSError: ENOENT or ECONNREFUSED, there is no server; EACCES, it is another user's; EMFILE.
    """
    try:
        description = _open_description(path, domid)
    except OSError as error:
        error.filename = name
        raise
    return FakeDevice.open(description, name, nonblocking=nonblocking, cloexec=cloexec)


def _open_description(path: str, domid: int) -> Description:
    with contextlib.ExitStack() as stack:
        connection = stack.enter_context(connect(path))
        space, descriptor = _open(connection, domid)
        stack.pop_all()
    file = RemoteFile(path, connection, descriptor)
    return Description(
        *(file, descriptor, threading.RLock(), space),
        reopen=lambda: _open_description(path, file.domid()),
    )


def _open(connection: Socket, domid: int) -> tuple[str, Descriptor]:
    send(connection, f"open {domid}")
    answer, fds = connection.receive_fds(LINE_MAX, 1)
    if not answer:
        raise server_gone()
    space = answer_value(answer)
    if not fds:
        # This process had no descriptor number left for it.
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))
    return space, Descriptor(Socket(DATAGRAM, fds[0]))

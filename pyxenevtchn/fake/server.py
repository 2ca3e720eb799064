"""A hypervisor for many processes: the server of ``fake:unix:PATH``.

It is a process of its own, ``xenevtchn fake serve --socket PATH``, with a guardian beside it. What
it says to its clients is in protocol.py.

The models answer at once, so one thread and one epoll serve everybody. asyncio would cost as much
again as all the rest of an exchange.
"""

import contextlib
import errno
import os
import resource
import secrets
import select
import socket
import struct
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

from .device import FakeDevice
from .driver import OpenFile
from .guardian import Guardian
from .listener import listening
from .machine import Domain, Hypervisor
from .session import Session

# Room for more of them than will come at once takes longer to make.
_BATCH = 64


def serve(path: str, on_ready: Callable[[], None]) -> None:
    """Serve a new hypervisor at ``path`` until a signal handler raises an exception.

    Args:
        path: where to listen (see listener).
        on_ready: called when clients can come.

    Raises:
        OSError: the socket cannot be made; ECHILD, somebody killed the guardian.
    """
    _allow_many_descriptors()
    with listening(path) as listener:
        guardian = Guardian()
        # The guardian first: whoever is here still is hung up on.
        with contextlib.closing(Server(listener, guardian)) as server, contextlib.closing(guardian):
            on_ready()
            server.run()


class OpenedFile:
    """A file that a client has opened.

    Args:
        domain: where.
        pid: the client's process.

    Attributes:
        domid: the domain's number.
        owner: the name of the client's program.
        key: what the client calls it.
        space: what it calls the domain.
        device: the descriptor that the client gets.
        model: what is behind that.
        sessions: the connections on which it is used.
    """

    def __init__(self, domain: Domain, pid: int) -> None:
        self.domid: int = domain.domid
        self.owner: str = _program(pid)
        self.key: str = secrets.token_hex(8)
        self.device: FakeDevice
        self.model: OpenFile
        self.device, self.model = domain.open_file()
        # Unique while the file is open, and with it the domain that it is open in.
        self.space: str = f"{os.getpid()}-{id(self.device.port_space):x}"
        self.sessions: set[Session] = set()


class Server:
    """A hypervisor, the files that its clients have open, and their connections.

    Attributes:
        hypervisor: the hypervisor.
        files: what is open, by its key.
    """

    def __init__(self, listener: socket.socket, guardian: Guardian) -> None:
        self.hypervisor: Hypervisor = Hypervisor()
        self.files: dict[str, OpenedFile] = {}
        self._guardian = guardian
        self._listener = listener
        self._listener.setblocking(False)
        self._sessions: dict[int, Session] = {}
        self._epoll = select.epoll()
        self._epoll.register(listener, select.EPOLLIN)
        self._epoll.register(guardian, select.EPOLLIN)
        # Given up to turn a client away when there is no descriptor left.
        self._spare = os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)

    def run(self) -> NoReturn:
        """Serve.

        Raises:
            OSError: ECHILD, the guardian is gone.
        """
        while True:
            for fd, events in self._epoll.poll(maxevents=_BATCH):
                session = self._sessions.get(fd)
                if session is not None:
                    session.ready(events)
                elif fd == self._listener.fileno():
                    self._accept()
                elif fd == self._guardian.fileno():
                    raise OSError(errno.ECHILD, "somebody killed the guardian of this server")

    def close(self) -> None:
        """Close every file and connection."""
        for session in list(self._sessions.values()):
            session.close()
        self._epoll.close()
        os.close(self._spare)

    def watch(self, fd: int, events: int) -> None:
        """Tell a session of these events alone from now on."""
        self._epoll.modify(fd, events)

    def forget(self, fd: int) -> None:
        """Tell a session nothing more."""
        del self._sessions[fd]
        self._epoll.unregister(fd)

    def open_file(self, domid: int, connection: socket.socket) -> OpenedFile:
        """Open a file in a domain, which is created if there is none, for who is connected.

        Raises:
            OSError: EMFILE.
            ValueError: no domain can have that domid.
        """
        try:
            domain = self.hypervisor.domain(domid)
        except LookupError:
            domain = self.hypervisor.create_domain(domid)
        pid, _uid = _peer(connection)
        file = OpenedFile(domain, pid)
        self.files[file.key] = file
        self._guardian.hold(file.key, file.device.fileno())
        return file

    def close_file(self, file: OpenedFile) -> None:
        """Close a file, and the connections on which it is used."""
        self._guardian.drop(file.key)
        del self.files[file.key]
        file.device.close()
        for session in list(file.sessions):
            session.close()

    def _accept(self) -> None:
        try:
            connection, _ = self._listener.accept()
        except BlockingIOError:
            return
        except OSError:
            # No descriptor is left but the spare one.
            os.close(self._spare)
            with contextlib.suppress(OSError):
                _turn_away(self._listener.accept()[0], errno.EMFILE, "the server has none left")
            self._spare = os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)
            return
        _pid, uid = _peer(connection)
        if not may_connect(uid):
            _turn_away(connection, errno.EACCES, "the server is another user's")
            return
        fd = connection.fileno()
        self._epoll.register(fd, select.EPOLLIN)
        self._sessions[fd] = Session(self, connection)


def may_connect(uid: int) -> bool:
    """Tell whether a user may use this server: its own, and root."""
    return uid in {0, os.geteuid()}


def _peer(connection: socket.socket) -> tuple[int, int]:
    """Tell the process and the user at the other end."""
    credentials = struct.Struct("3i")
    packed = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, credentials.size)
    pid, uid, _gid = credentials.unpack(packed)
    return pid, uid


def _program(pid: int) -> str:
    try:
        text = Path("/proc", str(pid), "comm").read_text(errors="surrogateescape")
    except OSError:
        return "?"  # it has ended already
    return text.removesuffix("\n")


def _turn_away(connection: socket.socket, number: int, text: str) -> None:
    with contextlib.suppress(OSError), connection:
        connection.send(f"error {number} {text}\n".encode(), socket.MSG_DONTWAIT)


def _allow_many_descriptors() -> None:
    # A client's file takes five: two connections, and a pair of sockets of which one is doubled.
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))

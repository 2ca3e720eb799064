"""A hypervisor for many processes: the server of ``fake:unix:PATH``.

It is a process of its own, ``xenevtchn fake serve --socket PATH``, with a guardian beside it. The
protocol is in protocol.py.

The models answer at once, so one thread and one epoll serve all clients. To echo a line, an asyncio
server takes 2 to 4 times as long, and socketserver's threads 1.2 to 1.7 times; with threads the
models would need a lock.
"""

import contextlib
import errno
import os
import resource
import select
import socket
import struct
import threading
from collections import deque
from collections.abc import Callable, Iterator

from ..descriptor import identity
from ..hypervisor import Hypervisor
from .guardian import Guardian
from .last_close import LastClose
from .listener import listening
from .opened_file import Calls, OpenedFile
from .session import Session

# The events of one epoll_wait. A larger array, seldom full, takes longer to allocate.
_BATCH = 64

# How many files that programs left open are remembered.
_LEFT = 100


def serve(
    path: str,
    hypervisor: Hypervisor,
    on_ready: Callable[[], None],
    on_bug: Callable[[str], None],
) -> None:
    """Serve a hypervisor at ``path`` until a signal handler raises an exception.

    Args:
        path: where to listen (see listener).
        hypervisor: what to serve.
        on_ready: called when clients can connect.
        on_bug: called with the text of each KernelBug that a client causes.

    Raises:
        OSError: the socket cannot be made; ECHILD, the guardian was killed.
    """
    allow_many_descriptors()
    with _server(path, hypervisor, on_bug) as server:
        on_ready()
        server.run()


@contextlib.contextmanager
def serving(path: str, on_bug: Callable[[str], None]) -> Iterator["Server"]:
    """Serve a new hypervisor at ``path`` from a thread, for as long as the context lasts.

    The process may need more descriptors (see ``allow_many_descriptors``).

    Args:
        path: where to listen (see listener).
        on_bug: called, in the thread, with the text of each KernelBug that a client causes.

    Raises:
        OSError: the socket cannot be made; at the end, ECHILD, the guardian was killed.
    """
    failures: list[OSError] = []

    def serve() -> None:
        try:
            server.run()
        except OSError as error:
            failures.append(error)
            server.hang_up()

    with _server(path, Hypervisor(), on_bug) as server:
        thread = threading.Thread(target=serve, name="xenevtchn fake")
        thread.start()
        try:
            yield server
        finally:
            server.stop()
            thread.join()
    if failures:
        raise failures[0]


@contextlib.contextmanager
def _server(path: str, hypervisor: Hypervisor, on_bug: Callable[[str], None]) -> Iterator["Server"]:
    """Make a server at ``path`` for as long as the context lasts; the caller runs it."""
    with listening(path) as listener:
        guardian = Guardian()
        server = Server(listener, guardian, hypervisor, on_bug)
        # The guardian is closed first: it disconnects the clients that are still there.
        with contextlib.closing(server), contextlib.closing(guardian):
            yield server


class Server:
    """A hypervisor, the files that its clients have open, and their connections.

    Attributes:
        hypervisor: the hypervisor.
        on_bug: called with the text of each KernelBug that a client causes.
        files: the open files, by the identity of their descriptors.
        left: the files that programs left open, for messages: the last ones that were closed
            without CLOSE, and when ``run`` has returned those that are still open.
    """

    def __init__(
        self,
        listener: socket.socket,
        guardian: Guardian,
        hypervisor: Hypervisor,
        on_bug: Callable[[str], None],
    ) -> None:
        self.hypervisor = hypervisor
        self.on_bug = on_bug
        self.files: dict[tuple[int, int], OpenedFile] = {}
        self.left: deque[str] = deque(maxlen=_LEFT)
        self._guardian = guardian
        self._listener = listener
        self._listener.setblocking(False)
        self._sessions: dict[int, Session | Calls] = {}
        # The files, by their numbers in LastClose.
        self._watched: dict[int, OpenedFile] = {}
        # The files with waiting sessions for which there are events now.
        self._awake: list[OpenedFile] = []
        self._last_close = LastClose()
        self._stop = os.eventfd(0)
        self._epoll = select.epoll()
        for each in (listener, guardian, self._last_close, self._stop):
            self._epoll.register(each, select.EPOLLIN)
        # Closed for a moment to turn a client away when there is no other descriptor left.
        self._spare = os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)

    def run(self) -> None:
        """Serve until ``stop`` is called.

        Raises:
            OSError: ECHILD, the guardian was killed.
        """
        while True:
            batch = self._epoll.poll(-1, _BATCH)
            if len(batch) > 1:
                # Before any call: a file that was closed before a call must be closed in it.
                self._close_unused()
            for fd, events in batch:
                session = self._sessions.get(fd)
                if session is not None:
                    session.ready(events)
                    if self._awake:
                        self._answer_waiting()
                elif fd == self._listener.fileno():
                    self._accept()
                elif fd == self._last_close.fileno():
                    self._close_unused()
                elif fd == self._stop:
                    self.left += [file.describe() for file in self.files.values()]
                    return
                elif fd == self._guardian.fileno():
                    raise OSError(errno.ECHILD, "the guardian of this server was killed")

    def stop(self) -> None:
        """Make ``run`` return; any thread may call this."""
        os.eventfd_write(self._stop, 1)

    def hang_up(self) -> None:
        """End every connection."""
        for session in list(self._sessions.values()):
            session.close()

    def close(self) -> None:
        """End every connection, and drop every file."""
        self.hang_up()
        for file in self.files.values():
            file.descriptor.close()
        self.files.clear()
        self._last_close.close()
        self._epoll.close()
        for fd in (self._stop, self._spare):
            os.close(fd)

    def watch(self, fd: int, events: int) -> None:
        """Watch a session for only these events from now on."""
        self._epoll.modify(fd, events)

    def forget(self, fd: int) -> None:
        """Stop watching a session."""
        del self._sessions[fd]
        self._epoll.unregister(fd)

    def hand_over(self, connection: socket.socket, calls: Calls) -> None:
        """Pass the events of a connection to ``calls`` from now on."""
        self._sessions[connection.fileno()] = calls

    def open_file(self, domid: int, connection: socket.socket) -> OpenedFile:
        """Open a file for a client, in a domain that is created if there is none.

        Raises:
            OSError: EMFILE, ENOSPC.
            ValueError: no domain can have that domid.
        """
        domain = self.hypervisor.named_domain(domid)
        pid, _uid = _peer(connection)
        file = OpenedFile(domain, pid, self._awake.append)
        try:
            self._watched[self._last_close.watch(file.descriptor.fileno())] = file
        except BaseException:
            file.close()
            raise
        self.files[file.descriptor.identity] = file
        self._guardian.hold(file.key, file.descriptor.inner)
        return file

    def find_file(self, fd: int) -> OpenedFile | None:
        """Take a descriptor; return its file, if it has one."""
        file = self.files.get(identity(fd))
        if file is None:
            os.close(fd)
        else:
            file.descriptor.take_outer(fd)
        return file

    def remove_session(self, session: Calls, file: OpenedFile, *, announced: bool) -> None:
        """Remove a connection from its file; close the file if it has no descriptor any more.

        Args:
            session: the connection.
            file: the file.
            announced: whether the connection ended with CLOSE.
        """
        file.sessions.discard(session)
        file.end_wait(session)
        file.announced = announced
        if not file.sessions:
            file.descriptor.close_outer()
            self._close_unused()

    def check_clean(self) -> None:
        """Check that no file is open and no port bound, except the kernels' and static ones.

        Raises:
            AssertionError: something was left behind; the message says what, and where.
        """
        left = [file.describe() for file in self.files.values() if not file.model.stale]
        if left:
            raise AssertionError(f"left behind in {'; '.join(left)}")
        self.hypervisor.check_clean()

    def _close_unused(self) -> None:
        for number in self._last_close.closed():
            file = self._watched.pop(number)
            del self.files[file.descriptor.identity]
            self._guardian.drop(file.key)
            if not file.announced:
                self.left.append(file.describe())
            file.close()
            if file.bug:
                self.on_bug(file.bug)

    def _answer_waiting(self) -> None:
        while self._awake:
            file = self._awake.pop()
            waiting, file.waiting = file.waiting, {}
            for session in waiting:
                session.answer_wait()

    def _accept(self) -> None:
        try:
            connection, _ = self._listener.accept()
        except BlockingIOError:
            return
        except OSError:
            # No descriptor is left, except the spare one.
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
    """Return whether a user may use this server: the server's own, and root."""
    return uid in {0, os.geteuid()}


def _peer(connection: socket.socket) -> tuple[int, int]:
    """Return the pid and the uid of the process at the other end."""
    credentials = struct.Struct("3i")
    packed = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, credentials.size)
    pid, uid, _gid = credentials.unpack(packed)
    return pid, uid


def _turn_away(connection: socket.socket, number: int, text: str) -> None:
    with contextlib.suppress(OSError), connection:
        connection.send(f"error {number} {text}\n".encode(), socket.MSG_DONTWAIT)


def allow_many_descriptors() -> None:
    """Raise the process's limit to its maximum: a client's file takes at least three."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))

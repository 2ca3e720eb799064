"""A file that clients have open, and the calls on its connections (see protocol)."""

import contextlib
import errno
import functools
import os
import socket
import struct
from collections.abc import Callable
from typing import Protocol

from ...abi import Request
from ...holders import program_name
from ..descriptor import PollDescriptor
from ..domain import Domain
from ..model.driver import OpenFile
from ..model.failure import KernelBug, Refusal
from .protocol import (
    ANSWER,
    CALL,
    CALL_MAX,
    KERNEL_BUG,
    NAME,
    PAGE,
    REFUSED,
    REQUESTS,
    SIZE,
    STRUCTS,
    Call,
)

# To look them up in their objects costs as much as the calls themselves.
_pack, _unpack = ANSWER.pack, CALL.unpack_from
_HEAD = CALL.size
_UNDO = int(Call.UNDO)


class OpenedFile:
    """A file that a client has opened.

    Args:
        domain: the domain that it is in.
        pid: the client's process.
        wake: called when the waiting connections may have an answer.

    Attributes:
        owner: the name of the client's program.
        key: its key in the guardian.
        space: the SPACE of the protocol: names the domain.
        descriptor: polls as the file does; the client gets a duplicate.
        model: the file itself.
        sessions: the connections about it.
        waiting: those whose WAIT has no answer yet, in their order.
        announced: whether the last connection that ended did so with CLOSE.
        bug: the text of the KernelBug that its close raised, if any.
    """

    def __init__(self, domain: Domain, pid: int, wake: Callable[["OpenedFile"], object]) -> None:
        self.owner: str = program_name(pid)
        self._wake = wake
        # Keeps the id of the domain, which is in ``space``, unique while the file is open.
        self._domain = domain
        self.space: str = f"{os.getpid()}-{id(domain):x}"
        self.descriptor: PollDescriptor = PollDescriptor(pid, NAME)
        self.key: str = str(self.descriptor.identity[1])
        try:
            self.model: OpenFile = domain.open_file(self.descriptor.show)
        except BaseException:
            self.descriptor.close()
            raise
        self.sessions: set[Calls] = set()
        self.waiting: dict[Calls, None] = {}
        self.announced: bool = False
        self.bug: str = ""

    @property
    def domid(self) -> int:
        """The domain's domid, which changes when the domain is restored."""
        return self._domain.domid

    def describe(self) -> str:
        """Describe the file and its ports, for messages."""
        ports = ", ".join(map(str, sorted(self.model.ports)))
        held = f", with {'ports' if len(self.model.ports) > 1 else 'port'} {ports}" if ports else ""
        return f"domain {self.domid}: a handle of {self.owner}{held}"

    def wait(self, session: "Calls") -> None:
        """Let a session wait; it goes on when there are events."""
        self.waiting[session] = None
        # Only from now on: most files never have a session that waits.
        self.model.on_poll = self._show

    def end_wait(self, session: "Calls") -> None:
        """End the wait of a session, if it waits."""
        self.waiting.pop(session, None)

    def _show(self, mask: int) -> None:
        self.descriptor.show(mask)
        if mask and self.waiting:
            self._wake(self)

    def close(self) -> None:
        """Close the file, and free its ports."""
        try:
            self.model.release()
        except KernelBug as bug:
            self.bug = str(bug)
        self.descriptor.close()


class CallsServer(Protocol):
    """What the server does for a connection about a file (see server.Server)."""

    on_bug: Callable[[str], None]

    def forget(self, fd: int) -> None:
        """Stop watching a connection."""

    def remove_session(self, session: "Calls", file: OpenedFile, *, announced: bool) -> None:
        """Remove a connection from its file; close the file if it has no descriptor any more."""


class Calls:
    """A connection about a file. One that breaks the protocol ends; the others go on.

    Args:
        server: the server that has it.
        connection: its socket, from which no call has been read yet.
        file: the file.

    Attributes:
        model: the file's model.
        undo_last: undoes the last call, while the client may not have its answer yet.
    """

    def __init__(self, server: CallsServer, connection: socket.socket, file: OpenedFile) -> None:
        self.model: OpenFile = file.model
        self.undo_last: Callable[[], object] | None = None
        self._server = server
        self._connection = connection
        self._file = file
        self._received = b""
        # The bytes of a WAIT that has no answer yet.
        self._wanted = b""
        self._note = b""
        file.sessions.add(self)

    def ready(self, _events: int) -> None:
        """Answer the calls that have come."""
        try:
            data = self._connection.recv(CALL_MAX)
        except BlockingIOError:
            return
        except OSError:
            self._lost()
            return
        if not data:
            self.close()
            return
        data = self._received + data
        while len(data) >= _HEAD:
            what, size = _unpack(data)
            end = _HEAD + size
            call = _CALLS.get(what)
            if call is None or end > CALL_MAX or (self._wanted and what != _UNDO):
                self.close()
                return
            if len(data) < end:
                break
            if what != _UNDO:
                self.undo_last = None
            self._answer(call, data[_HEAD:end])
            data = data[end:]
            if data and self._connection.fileno() < 0:
                return
        self._received = data

    def answer_wait(self) -> None:
        """Answer a WAIT, if there are events now."""
        wanted, self._wanted = self._wanted, b""
        self._answer(Calls._wait, wanted)

    def close(self) -> None:
        """End the connection, after its file is closed if that has no descriptor any more."""
        self._end(announced=False)

    def _answer(self, call: "_Method", data: bytes) -> None:
        try:
            answer = call(self, data)
        except OSError as error:
            answer = self._explained(-(error.errno or 0), *getattr(error, "__notes__", ()))
        except KernelBug as bug:
            self._server.on_bug(str(bug))
            answer = self._explained(-KERNEL_BUG, str(bug))
        except ValueError as refusal:
            answer = self._explained(-REFUSED, str(refusal))
        except struct.error:  # its size is wrong
            self.close()
            return
        try:
            # A client that makes calls and reads no answers is disconnected.
            if answer and self._connection.send(answer) < len(answer):
                self.close()
        except BlockingIOError:
            self.close()
        except OSError:
            self._lost()

    def _explained(self, result: int, *notes: str) -> bytes:
        self._note = " ".join(notes).encode()[:PAGE]
        return _pack(result, len(self._note))

    def _lost(self) -> None:
        """End the connection: the client has closed it, and left the last answer unread."""
        self._undo()
        self.close()

    def _undo(self) -> None:
        undo_last, self.undo_last = self.undo_last, None
        if undo_last is not None:
            with contextlib.suppress(OSError):
                undo_last()

    def _end(self, *, announced: bool) -> None:
        fd = self._connection.fileno()
        if fd < 0:
            return
        self._server.forget(fd)
        self._server.remove_session(self, self._file, announced=announced)
        with self._connection:
            if announced and self._file.bug:
                answer = self._explained(-KERNEL_BUG, self._file.bug)
                with contextlib.suppress(OSError):
                    self._connection.send(answer + self._note)

    def _read(self, data: bytes) -> bytes:
        ports = self.model.read(SIZE.unpack(data)[0])
        self.undo_last = functools.partial(self.model.unread, ports)
        return _pack(len(ports), len(ports)) + ports

    def _wait(self, data: bytes) -> bytes:
        try:
            return self._read(data)
        except Refusal as refusal:
            if refusal.errno != errno.EAGAIN:
                raise
            self._wanted = data
            self._file.wait(self)
            return b""

    def _write(self, data: bytes) -> bytes:
        return _pack(self.model.write(data), 0)

    def _domid(self, _data: bytes) -> bytes:
        return _pack(self.model.domid(), 0)

    def _explain(self, _data: bytes) -> bytes:
        return _pack(0, len(self._note)) + self._note

    def _give_up(self, _data: bytes) -> bytes:
        self._wanted = b""
        self._file.end_wait(self)
        self._undo()
        return _pack(-errno.ECANCELED, 0)

    def _close(self, _data: bytes) -> bytes:
        self._end(announced=True)
        return b""


_Method = Callable[[Calls, bytes], bytes]


def _request(request: Request) -> _Method:
    unpack = STRUCTS[request].unpack

    def method(calls: Calls, data: bytes) -> bytes:
        ioctl = calls.model.ioctl
        port = ioctl(request, *unpack(data))
        if port:
            calls.undo_last = functools.partial(ioctl, Request.UNBIND, port)
        return _pack(port, 0)

    return method


_CALLS: dict[int, _Method] = {
    **{number: _request(request) for number, request in enumerate(REQUESTS)},
    Call.READ: Calls._read,  # noqa: SLF001 - the class's own table
    Call.WAIT: Calls._wait,  # noqa: SLF001
    Call.WRITE: Calls._write,  # noqa: SLF001
    Call.DOMID: Calls._domid,  # noqa: SLF001
    Call.EXPLAIN: Calls._explain,  # noqa: SLF001
    Call.UNDO: Calls._give_up,  # noqa: SLF001
    Call.CLOSE: Calls._close,  # noqa: SLF001
}

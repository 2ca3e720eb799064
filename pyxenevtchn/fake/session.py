"""One connection of a server: lines in, calls of the models, lines out (see protocol)."""

import contextlib
import dataclasses
import functools
import json
import select
import socket
from collections.abc import Callable
from typing import TYPE_CHECKING, cast

from ..abi import PORT_BYTES, UINT32_MAX, Request
from .protocol import LINE_MAX

if TYPE_CHECKING:
    from .driver import OpenFile
    from .server import OpenedFile, Server


class Session:
    """A connection. One that breaks the protocol ends, and no other with it."""

    def __init__(self, server: "Server", connection: socket.socket) -> None:
        self._server = server
        self._connection = connection
        self._connection.setblocking(False)
        self._received = b""
        # Before this has gone out nothing more is read, nor done: it cannot grow.
        self._unsent = b""
        # The file that was opened here, and the one that what is said here is about.
        self._opened: OpenedFile | None = None
        self._file: OpenedFile | None = None
        # Takes back what the last answer gave, while nobody is known to have got that.
        self.take_back: Callable[[], object] | None = None

    def ready(self, events: int) -> None:
        """Go on: something has come, or can go out."""
        try:
            if events & select.EPOLLOUT:
                self._server.watch(self._connection.fileno(), select.EPOLLIN)
                unsent, self._unsent = self._unsent, b""
                self._send(unsent)
            else:
                self._receive()
            while not self._unsent and b"\n" in self._received:
                line, _, self._received = self._received.partition(b"\n")
                self._answer(line.decode("ascii"))
            if len(self._received) > LINE_MAX and not self._unsent:
                self.close()
        except (_MalformedError, UnicodeDecodeError):
            self.close()
        except OSError:
            # The other end has gone and left unread what it was given.
            if self.take_back is not None:
                with contextlib.suppress(OSError):
                    self.take_back()
            self.close()

    def close(self) -> None:
        """End it, and close the file that was opened here."""
        fd = self._connection.fileno()
        if fd < 0:
            return
        self._server.forget(fd)
        self._connection.close()
        if self._file is not None:
            self._file.sessions.discard(self)
        if self._opened is not None:
            self._server.close_file(self._opened)

    def _receive(self) -> None:
        try:
            data = self._connection.recv(LINE_MAX)
        except BlockingIOError:
            return
        self.take_back = None
        self._received += data
        if not data:
            self.close()

    def _send(self, data: bytes) -> None:
        try:
            sent = self._connection.send(data)
        except BlockingIOError:
            sent = 0
        if sent < len(data):
            self._server.watch(self._connection.fileno(), select.EPOLLOUT)
            self._unsent = data[sent:]

    def _answer(self, line: str) -> None:
        word, *texts = line.split(" ")
        method, kinds, least = _WORDS.get(word, _NO_WORD)
        if not least <= len(texts) <= len(kinds):
            raise _MalformedError
        arguments = [kind(text) for kind, text in zip(kinds, texts, strict=False)]
        try:
            value = method(self, *arguments)
        except OSError as error:
            value = " ".join([f"error {error.errno}", *getattr(error, "__notes__", ())])
        except (ValueError, LookupError, AssertionError) as error:
            value = f"refused {error}"
        if value is not None:
            self._send(f"{value}\n".encode())

    # Files.

    def _open(self, domid: int) -> None:
        if self._opened or self._file:
            raise _MalformedError
        self._opened = file = self._server.open_file(domid, self._connection)
        answer = f"ok {file.key} {file.space}\n".encode()
        socket.send_fds(self._connection, [answer], [file.device.fileno()])

    def _attach(self, key: str) -> None:
        file = self._server.files.get(key)
        if file is None or self._opened or self._file:
            raise _MalformedError
        self._file = file
        file.sessions.add(self)

    @property
    def model(self) -> "OpenFile":
        """The model of the file that what is said here is about."""
        if self._file is None:
            raise _MalformedError
        return self._file.model

    def _notify_many(self, ports: memoryview) -> str:
        sent, number = self.model.notify_many(ports)
        return f"ok {sent} {number}"

    def _read(self, size: int) -> str:
        model = self.model
        data = model.read(size)
        self.take_back = functools.partial(model.unread, data)
        return f"ok {data.hex()}"

    def _write(self, data: memoryview) -> str:
        return f"ok {self.model.write(data)}"

    # The hypervisor.

    def _raise_virq(self, virq: int, domid: int = 0) -> str:
        hypervisor = self._server.hypervisor
        hypervisor.raise_virq(virq, hypervisor.domain(domid))
        return "ok"

    def _ports(self, domid: int) -> str:
        ports = self._server.hypervisor.ports(domid)
        return f"ok {json.dumps([dataclasses.asdict(port) for port in ports])}"

    def _interrupts(self, domid: int) -> str:
        self._server.hypervisor.domain(domid)
        rows = [
            (port, file.owner, events)
            for file in self._server.files.values()
            if file.domid == domid
            for port, events in file.model.interrupts().items()
        ]
        return f"ok {json.dumps(rows)}"

    def _create_domain(self, domid: int | None = None) -> str:
        return f"ok {self._server.hypervisor.create_domain(domid).domid}"

    def _destroy_domain(self, domid: int) -> str:
        self._server.hypervisor.domain(domid).destroy()
        return "ok"

    def _fail_next(self, domid: int, operation: str, number: int) -> str:
        if not 0 < number <= _ERRNO_MAX:
            raise ValueError(f"errno must be 1 to {_ERRNO_MAX}, not {number}")
        self._server.hypervisor.domain(domid).fail_next(cast("Request", operation), number)
        return "ok"

    def _check_clean(self) -> str:
        self._server.hypervisor.check_clean()
        return "ok"


class _MalformedError(Exception):
    """What came is none of the protocol, or not here."""


_DIGITS = len(str(UINT32_MAX))

# The largest that a system call can give.
_ERRNO_MAX = 4095


def _number(text: str) -> int:
    if text.isdecimal() and len(text) <= _DIGITS and (number := int(text)) <= UINT32_MAX:
        return number
    raise _MalformedError


def _ports_of(text: str) -> memoryview:
    try:
        data = bytes.fromhex(text)
    except ValueError:
        raise _MalformedError from None
    if len(data) % PORT_BYTES:
        raise _MalformedError
    return memoryview(data)


def _request_method(request: Request) -> "_Method":
    def method(session: Session, *arguments: int) -> str:
        ioctl = session.model.ioctl
        port = ioctl(request, *arguments)
        if port:
            session.take_back = functools.partial(ioctl, Request.UNBIND, port)
        return f"ok {port}"

    return method


_Method = Callable[..., str | None]
_Word = tuple[_Method, tuple[Callable[[str], object], ...], int]

# By word: what it does, what makes its arguments of their texts, and how many it has at least.
_WORDS: dict[str, _Word] = {
    "open": (Session._open, (_number,), 1),  # noqa: SLF001 - the class's own table
    "attach": (Session._attach, (str,), 1),  # noqa: SLF001
    "notify_many": (Session._notify_many, (_ports_of,), 1),  # noqa: SLF001
    "read": (Session._read, (_number,), 1),  # noqa: SLF001
    "write": (Session._write, (_ports_of,), 1),  # noqa: SLF001
    "raise_virq": (Session._raise_virq, (_number, _number), 1),  # noqa: SLF001
    "ports": (Session._ports, (_number,), 1),  # noqa: SLF001
    "interrupts": (Session._interrupts, (_number,), 1),  # noqa: SLF001
    "create_domain": (Session._create_domain, (_number,), 0),  # noqa: SLF001
    "destroy_domain": (Session._destroy_domain, (_number,), 1),  # noqa: SLF001
    "fail_next": (Session._fail_next, (_number, str, _number), 3),  # noqa: SLF001
    "check_clean": (Session._check_clean, (), 0),  # noqa: SLF001
}
for _request in Request:
    _fields = (_number,) * len(_request.parameters)
    _WORDS[_request.value] = (_request_method(_request), _fields, len(_fields))

# Wants a word more than it can have.
_NO_WORD: _Word = (Session.close, (), 1)

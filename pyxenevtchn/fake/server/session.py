"""A connection of a server: lines come in, the hypervisor acts, lines go out (see protocol)."""

import dataclasses
import json
import os
import select
import socket
from collections.abc import Callable
from typing import Protocol, cast

from ...abi import UINT32_MAX, Request
from ..domain import Domain
from ..hypervisor import Hypervisor
from .opened_file import Calls, CallsServer, OpenedFile
from .protocol import LINE_MAX


class SessionServer(CallsServer, Protocol):
    """What the server does for a connection (see server.Server)."""

    hypervisor: Hypervisor
    files: dict[tuple[int, int], OpenedFile]

    def watch(self, fd: int, events: int) -> None:
        """Watch a connection for only these events from now on."""

    def hand_over(self, connection: socket.socket, calls: Calls) -> None:
        """Pass the events of a connection to ``calls`` from now on."""

    def open_file(self, domid: int, connection: socket.socket) -> OpenedFile:
        """Open a file for a client, in a domain that is created if there is none."""

    def find_file(self, fd: int) -> OpenedFile | None:
        """Take a descriptor; return its file, if it has one."""

    def check_clean(self) -> None:
        """Check that no file is open and no port bound, except the kernels' and static ones."""


class Session:
    """A connection. One that breaks the protocol ends; the others go on.

    Args:
        server: the server that has it.
        connection: its socket.

    Attributes:
        hypervisor: the server's.
    """

    def __init__(self, server: SessionServer, connection: socket.socket) -> None:
        self.hypervisor: Hypervisor = server.hypervisor
        self._server = server
        self._connection = connection
        self._connection.setblocking(False)
        self._received = b""
        # While this is not empty nothing more is read or done, so it cannot grow.
        self._unsent = b""
        # A descriptor that came with a line.
        self._passed = -1

    def ready(self, events: int) -> None:
        """Receive and answer lines, or send the rest of an answer."""
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
        except (_MalformedError, UnicodeDecodeError, OSError):
            self.close()

    def close(self) -> None:
        """End the connection."""
        fd = self._connection.fileno()
        if fd < 0:
            return
        self._drop_passed()
        self._server.forget(fd)
        self._connection.close()

    def _receive(self) -> None:
        try:
            data, fds, _, _ = socket.recv_fds(
                self._connection, LINE_MAX, 1, socket.MSG_CMSG_CLOEXEC
            )
        except BlockingIOError:
            return
        if fds:
            self._drop_passed()
            (self._passed,) = fds
        self._received += data
        if not data:
            self.close()

    def _drop_passed(self) -> None:
        fd, self._passed = self._passed, -1
        if fd >= 0:
            os.close(fd)

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

    # Files: the rest of the connection is for Calls.

    def _open(self, domid: int) -> None:
        if self._received:
            raise _MalformedError
        file = self._server.open_file(domid, self._connection)
        calls = self._hand_over(file)
        try:
            answer = f"ok {file.space}\n".encode()
            socket.send_fds(self._connection, [answer], [file.descriptor.fileno()])
        except OSError:
            calls.close()

    def _attach(self) -> None:
        if self._received or self._passed < 0:
            raise _MalformedError
        fd, self._passed = self._passed, -1
        file = self._server.find_file(fd)
        if file is None:
            raise _MalformedError
        self._hand_over(file)

    def _hand_over(self, file: OpenedFile) -> Calls:
        calls = Calls(self._server, self._connection, file)
        self._server.hand_over(self._connection, calls)
        return calls

    # The hypervisor.

    def _configuration(self) -> str:
        configuration = self.hypervisor.configuration
        return f"ok {json.dumps(dataclasses.asdict(configuration))}"

    def _raise_virq(self, virq: int, domid: int | None = None) -> str:
        self.hypervisor.raise_virq(virq, self._domain(domid))
        return "ok"

    def _set_virq_handler(self, virq: int, domid: int) -> str:
        self.hypervisor.set_virq_handler(virq, self.hypervisor.domain(domid))
        return "ok"

    def _deliver(self, domid: int | None, most: int | None, storm: int) -> str:
        return f"ok {self.hypervisor.deliver(self._domain(domid), most, storm=bool(storm))}"

    def _domain(self, domid: int | None) -> Domain | None:
        return None if domid is None else self.hypervisor.domain(domid)

    def _ports(self, domid: int) -> str:
        ports = self.hypervisor.ports(domid)
        return f"ok {json.dumps([dataclasses.asdict(port) for port in ports])}"

    def _interrupts(self, domid: int) -> str:
        self.hypervisor.domain(domid)
        rows = [
            (port, file.owner, events)
            for file in self._server.files.values()
            if file.domid == domid
            for port, events in file.model.interrupts().items()
        ]
        return f"ok {json.dumps(rows)}"

    def _create_domain(self, domid: int | None, max_ports: int) -> str:
        return f"ok {self.hypervisor.create_domain(domid, max_ports).domid}"

    def _connect_static(self, a: int, a_port: int, b: int, b_port: int) -> str:
        one, other = self.hypervisor.domain(a), self.hypervisor.domain(b)
        self.hypervisor.connect_static(one, a_port, other, b_port)
        return "ok"

    def _crash_domain(self, domid: int, preserve: int) -> str:
        self.hypervisor.domain(domid).crash(preserve=bool(preserve))
        return "ok"

    def _restore_domain(self, domid: int) -> str:
        domain = self.hypervisor.saved_domain(domid)
        domain.restore()
        return f"ok {domain.domid}"

    def _fail_next(self, domid: int, operation: str, number: int) -> str:
        if not 0 < number <= _ERRNO_MAX:
            raise ValueError(f"errno must be 1 to {_ERRNO_MAX}, not {number}")
        self.hypervisor.domain(domid).fail_next(cast("Request", operation), number)
        return "ok"

    def _check_clean(self) -> str:
        self._server.check_clean()
        return "ok"


class _MalformedError(Exception):
    """A line is not in the protocol, or not allowed here."""


_DIGITS = len(str(UINT32_MAX))

# The highest that a system call can return.
_ERRNO_MAX = 4095


def _number(text: str) -> int:
    if text.isdecimal() and len(text) <= _DIGITS and (number := int(text)) <= UINT32_MAX:
        return number
    raise _MalformedError


def _number_or_none(text: str) -> int | None:
    return None if text == "-" else _number(text)


def _life_method(call: "Callable[[Domain], None]") -> "_Method":
    def method(session: Session, domid: int) -> str:
        call(session.hypervisor.domain(domid))
        return "ok"

    return method


_Method = Callable[..., str | None]
_Word = tuple[_Method, tuple[Callable[[str], object], ...], int]

# By word: its method, the converters of its arguments, and its least number of arguments.
_WORDS: dict[str, _Word] = {
    "open": (Session._open, (_number,), 1),  # noqa: SLF001 - the class's own table
    "attach": (Session._attach, (), 0),  # noqa: SLF001
    "configuration": (Session._configuration, (), 0),  # noqa: SLF001
    "raise_virq": (Session._raise_virq, (_number, _number), 1),  # noqa: SLF001
    "set_virq_handler": (Session._set_virq_handler, (_number, _number), 2),  # noqa: SLF001
    "deliver": (Session._deliver, (_number_or_none, _number_or_none, _number), 3),  # noqa: SLF001
    "ports": (Session._ports, (_number,), 1),  # noqa: SLF001
    "interrupts": (Session._interrupts, (_number,), 1),  # noqa: SLF001
    "create_domain": (Session._create_domain, (_number_or_none, _number), 2),  # noqa: SLF001
    "connect_static": (Session._connect_static, (_number,) * 4, 4),  # noqa: SLF001
    "crash_domain": (Session._crash_domain, (_number, _number), 2),  # noqa: SLF001
    "restore_domain": (Session._restore_domain, (_number,), 1),  # noqa: SLF001
    "fail_next": (Session._fail_next, (_number, str, _number), 3),  # noqa: SLF001
    "check_clean": (Session._check_clean, (), 0),  # noqa: SLF001
}
for _call in (
    *(Domain.destroy, Domain.pause, Domain.unpause),
    *(Domain.save, Domain.checkpoint, Domain.shutdown),
):
    _WORDS[f"{_call.__name__}_domain"] = (_life_method(_call), (_number,), 1)

# Needs more arguments than it can have.
_NO_WORD: _Word = (Session.close, (), 1)

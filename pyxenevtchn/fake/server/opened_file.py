"""A file that a client of the server has opened."""

import os
from collections.abc import Callable
from typing import Protocol

from ...holders import program_name
from ..descriptor import PollDescriptor
from ..domain import Domain
from ..model.driver import OpenFile
from ..model.failure import KernelBug
from .protocol import NAME


class Caller(Protocol):
    """A connection about a file, as the file knows it (see calls.Calls)."""

    def go_on(self) -> None:
        """Answer a WAIT, if there is something to read now."""


class OpenedFile:
    """A file that a client has opened.

    Args:
        domain: where.
        pid: the client's process.
        wake: called when those who wait may have an answer.

    Attributes:
        owner: the name of the client's program.
        key: what the guardian calls it.
        space: what the client calls the domain.
        descriptor: what the client gets a duplicate of.
        model: the file itself.
        sessions: the connections about it.
        waiting: those whose WAIT has no answer yet, in their order.
        said: whether the last who left it said that a descriptor was closed.
        bug: the kernel's bug that closing it was, if any.
    """

    def __init__(self, domain: Domain, pid: int, wake: Callable[["OpenedFile"], object]) -> None:
        self.owner: str = program_name(pid)
        self._wake = wake
        # Keeps the domain's identity its own while the file is open.
        self._domain = domain
        self.space: str = f"{os.getpid()}-{id(domain):x}"
        self.descriptor: PollDescriptor = PollDescriptor(pid, NAME)
        self.key: str = str(self.descriptor.identity[1])
        try:
            self.model: OpenFile = domain.open_file(self.descriptor.show)
        except BaseException:
            self.descriptor.close()
            raise
        self.sessions: set[Caller] = set()
        self.waiting: dict[Caller, None] = {}
        self.said: bool = False
        self.bug: str = ""

    @property
    def domid(self) -> int:
        """The domain's number, which another one takes the place of when it is restored."""
        return self._domain.domid

    def describe(self) -> str:
        """Say what it is and what it holds, for messages."""
        ports = ", ".join(map(str, sorted(self.model.ports)))
        held = f", with {'ports' if len(self.model.ports) > 1 else 'port'} {ports}" if ports else ""
        return f"domain {self.domid}: a handle of {self.owner}{held}"

    def wait(self, session: Caller) -> None:
        """Have a session go on once there is something to read."""
        self.waiting[session] = None
        # Most files have nobody who waits, and need not look.
        self.model.on_poll = self._show

    def wait_no_more(self, session: Caller) -> None:
        """Forget that it waits, if it does."""
        self.waiting.pop(session, None)

    def _show(self, mask: int) -> None:
        self.descriptor.show(mask)
        if mask and self.waiting:
            self._wake(self)

    def close(self) -> None:
        """Close it: its ports are free."""
        try:
            self.model.release()
        except KernelBug as bug:
            self.bug = str(bug)
        self.descriptor.close()

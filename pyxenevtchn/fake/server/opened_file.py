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
    """A connection about a file, as the file uses it (see calls.Calls)."""

    def go_on(self) -> None:
        """Answer a WAIT, if there are events now."""


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
        self.sessions: set[Caller] = set()
        self.waiting: dict[Caller, None] = {}
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

    def wait(self, session: Caller) -> None:
        """Let a session wait; it goes on when there are events."""
        self.waiting[session] = None
        # Only from now on: most files never have a session that waits.
        self.model.on_poll = self._show

    def wait_no_more(self, session: Caller) -> None:
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

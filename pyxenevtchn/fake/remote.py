"""RemoteHypervisor: what a test does with a Hypervisor, done with that of a server."""

import json
import os

from ..abi import Request, check_domid, check_uint32
from .hypervisor import State
from .machine import Port
from .protocol import answer_value, connect, exchange


class RemoteHypervisor:
    """The hypervisor of ``xenevtchn fake serve``: machine.Hypervisor's methods, with domids.

    Handles of it are opened by name, ``EventChannel.open("fake:unix:PATH?domid=N")``. Every call
    has a connection of its own; any thread may call anything at any time.

    Every method raises OSError where nobody serves at the path, and ValueError where it is asked
    for what is not there.

    Args:
        path: the server's socket.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self._path = os.fspath(path)

    def raise_virq(self, virq: int, domid: int = 0) -> None:
        """Raise a VIRQ in a domain; where nobody has bound it nothing happens."""
        self._ask("raise_virq", check_uint32("virq", virq), check_domid("domid", domid))

    def ports(self, domid: int) -> tuple[Port, ...]:
        """List a domain's ports, by number: its kernel's own too."""
        rows = json.loads(self._ask("ports", check_domid("domid", domid)))
        return tuple(Port(**{**row, "state": State(row["state"])}) for row in rows)

    def interrupts(self, domid: int) -> tuple[tuple[int, str, int], ...]:
        """Count the events of a domain's processes, as /proc/interrupts does.

        Returns:
            For each port that one holds: the port, the name of the program that opened the handle,
            and how many events it has had since it was bound.
        """
        rows = json.loads(self._ask("interrupts", check_domid("domid", domid)))
        return tuple((port, owner, events) for port, owner, events in rows)

    def create_domain(self, domid: int | None = None) -> int:
        """Create a domain, with this domid or the next one that none has had; return the domid."""
        words = () if domid is None else (check_domid("domid", domid),)
        return int(self._ask("create_domain", *words))

    def destroy_domain(self, domid: int) -> None:
        """Destroy a domain; its handles fail every call but close with ENODEV."""
        self._ask("destroy_domain", check_domid("domid", domid))

    def fail_next(self, domid: int, operation: Request | str, errno: int) -> None:
        """Make the next such call of a handle in the domain fail, and change nothing.

        Args:
            domid: the domain.
            operation: a Request, "read" or "write".
            errno: what it fails with.
        """
        self._ask("fail_next", check_domid("domid", domid), operation, check_uint32("errno", errno))

    def check_clean(self) -> None:
        """Check that no handle is open and no port bound but the kernels' own.

        Raises:
            AssertionError: something was left behind; the message says what, and where.
        """
        try:
            self._ask("check_clean")
        except ValueError as error:
            raise AssertionError(str(error)) from None

    def _ask(self, *words: object) -> str:
        try:
            with connect(self._path) as connection:
                answer = exchange(connection, " ".join(map(str, words)))
            return answer_value(answer)
        except OSError as error:
            error.filename = self._path
            raise

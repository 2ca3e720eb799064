"""RemoteHypervisor: the methods of a Hypervisor, for that of a server."""

import json
import os

from ...abi import Request, check_domid, check_uint32
from ...ports import Port, State
from ..hypervisor import GUEST_PORTS
from ..model.configuration import Configuration
from .protocol import answer_value, connect, exchange


class RemoteHypervisor:
    """The hypervisor of ``xenevtchn fake serve``: hypervisor.Hypervisor's methods, with domids.

    Open its handles by name, ``EventChannel.open("fake:unix:PATH?domid=N")``. Every call has a
    connection of its own; any thread may call any method at any time.

    Every method raises OSError if there is no server at the path, and ValueError for a domain or a
    VIRQ that does not exist.

    Args:
        path: the server's socket.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self._path = os.fspath(path)

    def configuration(self) -> Configuration:
        """Return the configuration of the hypervisor."""
        fields = json.loads(self._ask("configuration"))
        for name in ("xen_version", "linux"):
            fields[name] = tuple(fields[name])
        return Configuration(**fields)

    def raise_virq(self, virq: int, domid: int | None = None) -> None:
        """Raise a VIRQ. Nothing happens if nobody has bound it.

        Args:
            virq: a Virq, or its number.
            domid: where; None for the handler of a global VIRQ, and for dom0 otherwise.
        """
        where = () if domid is None else (check_domid("domid", domid),)
        self._ask("raise_virq", check_uint32("virq", virq), *where)

    def set_virq_handler(self, virq: int, domid: int) -> None:
        """Make a domain the handler of a global VIRQ, as the toolstack can.

        Raises:
            OSError: EINVAL, not a global VIRQ; EBUSY, the handler so far has it bound (from Xen
                4.21).
        """
        self._ask("set_virq_handler", check_uint32("virq", virq), check_domid("domid", domid))

    def deliver(
        self, domid: int | None = None, most: int | None = None, *, storm: bool = False
    ) -> int:
        """Run the waiting interrupts; return how many were for handles (Hypervisor.deliver)."""
        where = "-" if domid is None else check_domid("domid", domid)
        limit = "-" if most is None else check_uint32("most", most)
        return int(self._ask("deliver", where, limit, int(storm)))

    def ports(self, domid: int) -> tuple[Port, ...]:
        """List a domain's ports by number, its kernel's own ports included."""
        rows = json.loads(self._ask("ports", check_domid("domid", domid)))
        return tuple(Port(**{**row, "state": State(row["state"])}) for row in rows)

    def interrupts(self, domid: int) -> tuple[tuple[int, str, int], ...]:
        """Count the events of a domain's processes, as /proc/interrupts does.

        Returns:
            For each port that a process holds: the port, the name of the program that opened the
            handle, and the number of events since the port was bound.
        """
        rows = json.loads(self._ask("interrupts", check_domid("domid", domid)))
        return tuple((port, owner, events) for port, owner, events in rows)

    def create_domain(self, domid: int | None = None, max_ports: int = GUEST_PORTS) -> int:
        """Create a domain; return its domid.

        Args:
            domid: its number; None for the next one that no domain has had.
            max_ports: the highest port that it can have.
        """
        number = "-" if domid is None else check_domid("domid", domid)
        return int(self._ask("create_domain", number, check_uint32("max_ports", max_ports)))

    def connect_static(self, domid: int, port: int, other_domid: int, other_port: int) -> None:
        """Create a channel between two free ports, as Xen does for a device tree.

        Raises:
            OSError: EBUSY, a port is not free; ENOSPC, it is too high for its domain.
        """
        one = check_domid("domid", domid), check_uint32("port", port)
        other = check_domid("other_domid", other_domid), check_uint32("other_port", other_port)
        self._ask("connect_static", *one, *other)

    def destroy_domain(self, domid: int) -> None:
        """Destroy a domain; its handles fail every call but close with ENODEV."""
        self._ask("destroy_domain", check_domid("domid", domid))

    def pause_domain(self, domid: int) -> None:
        """Stop a domain's vCPUs: events that are sent to it wait (Domain.pause)."""
        self._ask("pause_domain", check_domid("domid", domid))

    def unpause_domain(self, domid: int) -> None:
        """Let a domain's vCPUs run again."""
        self._ask("unpause_domain", check_domid("domid", domid))

    def checkpoint_domain(self, domid: int) -> None:
        """Save a domain and let it continue (Domain.checkpoint)."""
        self._ask("checkpoint_domain", check_domid("domid", domid))

    def save_domain(self, domid: int) -> None:
        """Save a domain to a file (Domain.save)."""
        self._ask("save_domain", check_domid("domid", domid))

    def restore_domain(self, domid: int) -> int:
        """Restore the saved domain that had this domid; return its new domid."""
        return int(self._ask("restore_domain", check_domid("domid", domid)))

    def shutdown_domain(self, domid: int) -> None:
        """Let a domain shut itself down (Domain.shutdown)."""
        self._ask("shutdown_domain", check_domid("domid", domid))

    def crash_domain(self, domid: int, *, preserve: bool = False) -> None:
        """Let a domain's kernel crash (Domain.crash)."""
        self._ask("crash_domain", check_domid("domid", domid), int(preserve))

    def fail_next(self, domid: int, operation: Request | str, errno: int) -> None:
        """Make the next such call of a handle in the domain fail without effect.

        Args:
            domid: the domain.
            operation: a Request, "read" or "write".
            errno: what it fails with.
        """
        self._ask("fail_next", check_domid("domid", domid), operation, check_uint32("errno", errno))

    def check_clean(self) -> None:
        """Check that no handle is open and no port bound, except the kernels' and static ones.

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

"""The ports that a handle has bound; and whether another handle of the process has a port."""

import threading
import weakref
from collections.abc import Hashable, Iterable, Mapping
from types import MappingProxyType
from typing import NamedTuple

from .abi import Request, virq_name


class Binding(NamedTuple):
    """How a port was bound, in the driver's terms.

    Attributes:
        request: the request that bound it.
        virq: the VIRQ's number, for BIND_VIRQ.
        remote_domain: the other end's domid, for BIND_INTERDOMAIN and BIND_UNBOUND_PORT.
        remote_port: the other end's port there, for BIND_INTERDOMAIN.
    """

    request: Request
    virq: int | None = None
    remote_domain: int | None = None
    remote_port: int | None = None


class Bindings:
    """The ports of one handle.

    Attributes:
        lock: held during a request and its record here: otherwise a port that is freed and
            allocated again between the two is recorded wrongly. Reentrant, for signal handlers.
        virqs: by port, the number of the VIRQ that it is bound to.
        unbound: the ports that were bound before and are not bound now; the values are unused.
        complete: whether every port of the handle is recorded: an adopted handle may have others.
    """

    def __init__(self, port_space: Hashable) -> None:
        self.lock: threading.RLock = threading.RLock()
        self.virqs: dict[int, int] = {}
        self.unbound: dict[int, None] = {}
        self.complete: bool = True
        self._port_space = port_space
        self._bound: dict[int, Binding] = {}
        self.view: Mapping[int, Binding] = MappingProxyType(self._bound)
        _open_handles.add(self)

    def refuse_virqs(self, ports: Iterable[int]) -> None:
        """Check that no port to notify is bound to a VIRQ.

        Raises:
            ValueError: one is. It has no other end, and the kernel would report no error.
        """
        if self.virqs and not self.virqs.keys().isdisjoint(ports):
            port = next(port for port in ports if port in self.virqs)
            name = virq_name(self.virqs[port])
            raise ValueError(f"port {port} is bound to VIRQ {name} and has no other end")

    # A signal handler cannot interrupt a single step of these two methods.

    def add(self, port: int, binding: Binding) -> None:
        """Record a port that the driver has bound; the lock is held since before the request."""
        if port in self.unbound:
            del self.unbound[port]
        if binding.virq is not None:
            self.virqs[port] = binding.virq
        self._bound[port] = binding

    def remove(self, port: int) -> None:
        """Record that a port is no longer bound; the lock is held."""
        if port in self._bound:
            del self._bound[port]
        if port in self.virqs:
            del self.virqs[port]
        self.unbound[port] = None

    def held_elsewhere(self, port: int) -> bool:
        """Return whether another open handle of this process, in the same domain, has the port."""
        return any(
            other is not self and other._port_space == self._port_space and port in other._bound  # noqa: SLF001 - its own kind
            for other in list(_open_handles)
        )

    def retire(self) -> None:
        """Record that the handle is stale: its port numbers may belong to other handles now."""
        _open_handles.discard(self)

    def clear(self) -> None:
        """Record that the handle is closed and its ports are unbound."""
        self._bound.clear()
        self.virqs.clear()


_open_handles: weakref.WeakSet[Bindings] = weakref.WeakSet()

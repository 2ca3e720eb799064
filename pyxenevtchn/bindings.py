"""The ports that a handle has bound."""

from collections.abc import ItemsView, Iterator, Mapping
from typing import Any, NamedTuple

from .abi import Request
from .compiled import ffi, lib

_REQUESTS = tuple(Request)


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


class Bindings(Mapping[int, Binding]):
    """A live, read-only view of a handle's ports: the core's table.

    Args:
        handle: the C struct.
    """

    def __init__(self, handle: Any) -> None:  # noqa: ANN401 - C's pointer
        self._handle = handle

    def __getitem__(self, port: int) -> Binding:
        entry = ffi.new("struct binding *")
        # Any object can be looked up in a mapping.
        if type(port) is int and not port >> 32 and lib.handle_binding(self._handle, port, entry):
            return _binding(entry)
        raise KeyError(port)

    def __iter__(self) -> Iterator[int]:
        return iter(self._copy())

    def __len__(self) -> int:
        return lib.handle_bindings(self._handle, ffi.NULL, 0)

    def items(self) -> ItemsView[int, Binding]:
        """Return the ports and bindings of one moment, in order of port."""
        return self._copy().items()

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self._copy()})"

    def _copy(self) -> dict[int, Binding]:
        room, count = 0, len(self)
        while count > room:
            room = count + 16
            entries = ffi.new("struct binding[]", room)
            count = lib.handle_bindings(self._handle, entries, room)
        # The entries are in memory that lives no longer than this call.
        made = [(entries[i].port, _binding(entries[i])) for i in range(count)] if room else []
        return dict(sorted(made))


def tell(handle: Any, port: int, binding: Binding) -> None:  # noqa: ANN401
    """Record in the core a port that was bound elsewhere."""
    words = [word for word in binding[1:] if word is not None]
    first, second, *_ = (*words, 0, 0)
    number = _REQUESTS.index(binding.request)
    fields = {"port": port, "request": number, "first": first, "second": second}
    lib.handle_tell(handle, ffi.new("struct binding *", fields))


def _binding(entry: Any) -> Binding:  # noqa: ANN401
    request = _REQUESTS[entry.request]
    match request:
        case Request.BIND_VIRQ:
            return Binding(request, entry.first)
        case Request.BIND_INTERDOMAIN:
            return Binding(request, None, entry.first, entry.second)
        case Request.BIND_UNBOUND_PORT:
            return Binding(request, None, entry.first)
        case _:
            return Binding(request)

"""The fakes that have names: ``fake:``, shared by the whole process, and those of servers."""

import os
import threading

from ..abi import DOMID_FIRST_RESERVED
from .device import FakeDevice
from .hypervisor import Hypervisor

PREFIX = "fake:"

_UNIX = "unix:"

_KNOWN = "the names are fake: and fake:?domid=N, and fake:unix:PATH with or without ?domid=N"

_lock = threading.RLock()
_default: Hypervisor | None = None


def default() -> Hypervisor:
    """Return the hypervisor of the ``fake:`` names, which the first call creates.

    Each process has its own, a forked child too.
    """
    global _default  # noqa: PLW0603 - the one hypervisor that a name can mean
    with _lock:
        if _default is None:
            _default = Hypervisor()
        return _default


def reset_default(hypervisor: Hypervisor | None = None) -> None:
    """Set the hypervisor of the ``fake:`` names; open handles keep the old one.

    Args:
        hypervisor: the hypervisor; None for a new one.
    """
    global _default  # noqa: PLW0603
    with _lock:
        _default = hypervisor


# Without the lock, which another thread may have held when the parent forked.
def _start_afresh() -> None:
    global _default, _lock
    _default, _lock = None, threading.RLock()


os.register_at_fork(after_in_child=_start_afresh)


def open_named(name: str, *, nonblocking: bool, cloexec: bool) -> FakeDevice:
    """Open a fake by its name.

    Args:
        name: ``fake:``, a handle in dom0; or ``fake:?domid=N``, one in the domain N, which is
            created if there is none; or ``fake:unix:PATH`` and ``fake:unix:PATH?domid=N``, the same
            in the hypervisor of the server at PATH.
        nonblocking: whether ``read`` fails where it would wait.
        cloexec: whether the descriptor is closed when the process executes another program.

    Raises:
        ValueError: no fake has that name.
        OSError: EMFILE; or there is no server at PATH.
    """
    path, domid = parse(name)
    if path is None:
        return default().named_domain(domid).device(nonblocking=nonblocking, cloexec=cloexec)
    from .server.client import open_remote  # noqa: PLC0415 - only those who open one load it

    name = server_name(path, domid)
    return open_remote(path, domid, name, nonblocking=nonblocking, cloexec=cloexec)


def server_name(path: str, domid: int) -> str:
    """Return the name of a domain of the server at ``path``."""
    return f"{PREFIX}{_UNIX}{path}{f'?domid={domid}' if domid else ''}"


def parse(name: str) -> tuple[str | None, int]:
    """Return the parts of a name: the path of a server's socket, or None, and the domid.

    Raises:
        ValueError: no fake has that name.
    """
    place, _, query = name.removeprefix(PREFIX).partition("?")
    path = place.removeprefix(_UNIX)
    if not name.startswith(PREFIX) or place == _UNIX or (place and place == path):
        raise ValueError(f"no fake is called {name!r}: {_KNOWN}")
    return path or None, _parse_domid(name, query)


def _parse_domid(name: str, query: str) -> int:
    if not query:
        return 0
    key, _, value = query.partition("=")
    if key != "domid":
        raise ValueError(f"{name!r}: {query!r} is not known: {_KNOWN}")
    number = int(value) if value.isascii() and value.isdecimal() and len(value) < 6 else -1
    if not 0 <= number < DOMID_FIRST_RESERVED:
        raise ValueError(f"{name!r}: domid must be 0 to {DOMID_FIRST_RESERVED - 1}, not {value!r}")
    return number

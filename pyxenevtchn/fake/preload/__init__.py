"""Any program on the shared fake: the object that is preloaded into it, and what that is told.

The object serves the path /dev/xen/evtchn to the program that it is preloaded into, from the server
that XENEVTCHN_FAKE names. It is C, in the folder preload at the top of the source.
"""

import errno
import re
from collections.abc import Mapping
from pathlib import Path

from ..names import server_name
from ..server.protocol import socket_address

OBJECT = Path(__file__).with_name("xenevtchn_preload.so")
"""The object."""

VARIABLE = "XENEVTCHN_FAKE"
"""The environment variable that names the server and the domain, as ``fake:unix:PATH?domid=N``."""

_PRELOAD = "LD_PRELOAD"

# What ld.so takes for the end of an object's name in LD_PRELOAD.
_SEPARATORS = re.compile("[ :]")


def environment(base: Mapping[str, str], path: str, domid: int) -> dict[str, str]:
    """Return the environment of a program whose device is in a domain of a server.

    Args:
        base: the environment that it would have.
        path: the server's socket.
        domid: the domain, which is created when the program opens the device.

    Raises:
        ValueError: nothing can be preloaded from where the object is.
        OSError: ENAMETOOLONG, the socket's path; ENOENT, the object is not there.
    """
    others = [name for name in _SEPARATORS.split(base.get(_PRELOAD, "")) if name]
    return {
        **base,
        # What the program brings itself, a sanitizer's runtime for one, wants to be first.
        _PRELOAD: ":".join([*(name for name in others if name != str(OBJECT)), _object()]),
        VARIABLE: server_name(socket_address(str(Path(path).absolute())), domid),
    }


def _object() -> str:
    if not OBJECT.exists():
        raise FileNotFoundError(
            errno.ENOENT,
            "it has not been compiled: run `pip install --editable .` in the source",
            str(OBJECT),
        )
    if _SEPARATORS.search(str(OBJECT)):
        raise ValueError(f"nothing can be preloaded from a path with a space or a colon: {OBJECT}")
    return str(OBJECT)

"""Any program on the shared fake: the object that is preloaded into it, and its environment.

The object gives the program a /dev/xen/evtchn, from the server that XENEVTCHN_FAKE names. It is
written in C, in the folder preload at the top of the source.
"""

import errno
import re
from collections.abc import Mapping
from pathlib import Path

from ..names import server_name
from ..server.protocol import socket_address

OBJECT = Path(__file__).with_name("xenevtchn_preload.so")
"""The object that is preloaded."""

VARIABLE = "XENEVTCHN_FAKE"
"""The environment variable that names the server and the domain, as ``fake:unix:PATH?domid=N``."""

_PRELOAD = "LD_PRELOAD"

# ld.so's separators of the names in LD_PRELOAD.
_SEPARATORS = re.compile("[ :]")


def environment(base: Mapping[str, str], path: str, domid: int) -> dict[str, str]:
    """Return the environment of a program whose device is in a domain of a server.

    Args:
        base: the environment that it would have otherwise.
        path: the server's socket.
        domid: the domain, which is created when the program opens the device.

    Raises:
        ValueError: nothing can be preloaded from the object's path.
        OSError: ENAMETOOLONG, the socket's path is too long; ENOENT, there is no object.
    """
    others = [name for name in _SEPARATORS.split(base.get(_PRELOAD, "")) if name]
    return {
        **base,
        # The program's own objects, such as a sanitizer's runtime, must come first.
        _PRELOAD: ":".join([*(name for name in others if name != str(OBJECT)), _object()]),
        VARIABLE: server_name(socket_address(str(Path(path).absolute())), domid),
    }


def _object() -> str:
    if not OBJECT.exists():
        raise FileNotFoundError(
            errno.ENOENT,
            "it is compiled on systems with the GNU C library only; there, run"
            " `pip install --editable .` in the source",
            str(OBJECT),
        )
    if _SEPARATORS.search(str(OBJECT)):
        raise ValueError(f"nothing can be preloaded from a path with a space or a colon: {OBJECT}")
    return str(OBJECT)

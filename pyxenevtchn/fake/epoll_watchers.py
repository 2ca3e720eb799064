"""Who watches a descriptor with epoll, according to /proc."""

import contextlib
import os
import re
from pathlib import Path

_EPOLL = "anon_inode:[eventpoll]"
_WATCHED = re.compile(r"^tfd: +\d+ events: +([0-9a-f]+) .*\bino:([0-9a-f]+) ", re.MULTILINE)
_EPOLLET = 1 << 31


def edge_triggered(pid: int, inode: int) -> bool:
    """Return whether an edge-triggered epoll of a process watches this inode."""
    return any(
        int(events, 16) & _EPOLLET and int(watched, 16) == inode
        for epoll in _epolls(pid)
        for events, watched in _WATCHED.findall(epoll)
    )


def _epolls(pid: int) -> list[str]:
    """Return the fdinfo of each epoll of a process; none if we may not read them."""
    found = []
    with contextlib.suppress(OSError):
        for fd in Path(f"/proc/{pid}/fd").iterdir():
            with contextlib.suppress(OSError):  # closed since
                if os.readlink(fd) == _EPOLL:  # noqa: PTH115 - no path
                    found.append(Path(f"/proc/{pid}/fdinfo/{fd.name}").read_text())
    return found

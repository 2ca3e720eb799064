"""Reports the last close of a descriptor and its duplicates, in any process.

Linux's inotify reports the end of an open file, a socket's too: after the last close, exit or exec
of a process that held it, or when it was sent to a process that never received it.
"""

import ctypes
import os
import struct

# From <sys/inotify.h>, where IN_NONBLOCK and IN_CLOEXEC are O_NONBLOCK and O_CLOEXEC.
_IN_CLOSE = 0x08 | 0x10
_IN_ONESHOT = 0x8000_0000
_EVENT = struct.Struct("=iIII")

# Room for many events: all have this size, as a socket has no name.
_ROOM = 64 * _EVENT.size


class LastClose:
    """Descriptors that are watched, each until its last duplicate is closed."""

    def __init__(self) -> None:
        self._libc = ctypes.CDLL(None, use_errno=True)
        self._fd: int = self._libc.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC)
        if self._fd < 0:
            raise _error("no inotify instance is left for this user: fs.inotify.max_user_instances")

    def fileno(self) -> int:
        """Return a descriptor that is readable when ``closed`` has something to return."""
        return self._fd

    def watch(self, fd: int) -> int:
        """Watch the open file of ``fd``; return the number that ``closed`` has for it.

        Raises:
            OSError: ENOSPC, the user watches too many files.
        """
        path = f"/proc/self/fd/{fd}".encode()
        number: int = self._libc.inotify_add_watch(self._fd, path, _IN_CLOSE | _IN_ONESHOT)
        if number < 0:
            raise _error("no inotify watch is left for this user: fs.inotify.max_user_watches")
        return number

    def closed(self) -> list[int]:
        """Return the numbers of the files whose last descriptor was closed since the last call."""
        numbers: list[int] = []
        while True:
            try:
                events = os.read(self._fd, _ROOM)
            except BlockingIOError:
                return numbers
            numbers += [
                number for number, mask, *_ in _EVENT.iter_unpack(events) if mask & _IN_CLOSE
            ]

    def close(self) -> None:
        """Stop watching."""
        os.close(self._fd)


def _error(text: str) -> OSError:
    return OSError(ctypes.get_errno(), text)

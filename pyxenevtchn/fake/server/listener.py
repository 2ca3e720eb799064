"""The server's socket: private, and for one server at a time."""

import contextlib
import errno
import fcntl
import os
import socket
import stat
from collections.abc import Iterator
from pathlib import Path

from .protocol import connect, socket_address

_BACKLOG = 1024


@contextlib.contextmanager
def listening(path: str) -> Iterator[socket.socket]:
    """Listen at ``path``; at the end remove the socket, unless another server has replaced it.

    It has mode 0600 from the start. A socket that a dead server left there is replaced.

    Args:
        path: where; its directory must be readable and writable.

    Raises:
        OSError: EADDRINUSE, a server listens there or it is not a socket; or the error of the
            directory.
    """
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    with listener:
        # bind makes its file with the mode of the socket: others get no access, whatever the umask.
        os.fchmod(listener.fileno(), 0o600)
        with _lock_of(path):
            _remove_stale(path)
            listener.bind(socket_address(path))
            listener.listen(_BACKLOG)
            mine = _identity(path)
        try:
            yield listener
        finally:
            with contextlib.suppress(OSError), _lock_of(path):
                if _identity(path) == mine:
                    Path(path).unlink()


@contextlib.contextmanager
def _lock_of(path: str) -> Iterator[None]:
    """Lock the directory of ``path``: no other server checks or replaces the socket meanwhile."""
    directory = os.open(Path(path).parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(directory, fcntl.LOCK_EX)
        yield
    finally:
        os.close(directory)


def _remove_stale(path: str) -> None:
    try:
        mode = Path(path).lstat().st_mode
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(mode):
        raise OSError(errno.EADDRINUSE, "there is a file that is not a socket", path)
    try:
        connect(path).close()
    except ConnectionRefusedError:
        Path(path).unlink()
    except OSError as error:
        error.filename = path
        raise
    else:
        raise OSError(errno.EADDRINUSE, "a server listens there already", path)


def _identity(path: str) -> tuple[int, int]:
    status = Path(path).lstat()
    return status.st_dev, status.st_ino

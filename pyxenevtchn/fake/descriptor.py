"""A descriptor that polls like the driver's: one end of a pair of Unix datagram sockets.

A datagram in its queue makes it readable, for select, poll, epoll, asyncio and SIGIO alike, and
they hear of it once, as the datagram comes. It is writable always. And it can be given POLLERR: a
datagram socket whose peer lets go of it with mail still unread has ECONNRESET pending (Linux).
"""

import fcntl
import os
import select
import socket


class Descriptor:
    """The end that polls, whoever makes it.

    Duplicates of it are for callers to have; the one here is open until ``close``.

    Attributes:
        identity: device and inode number of the socket, which its duplicates have in common.
    """

    def __init__(self, outer: socket.socket) -> None:
        self._outer = outer
        # Whatever socket.setdefaulttimeout says: no call here may wait.
        self._outer.settimeout(None)
        self.identity: tuple[int, int] = identity(self._outer.fileno())

    def duplicate(self, nonblocking: bool, cloexec: bool) -> int:
        """Return a new descriptor that polls as this does.

        Args:
            nonblocking: whether it, and with it every other duplicate, has O_NONBLOCK.
            cloexec: whether it is closed on exec.

        Raises:
            OSError: EMFILE.
        """
        fd = os.dup(self._outer.fileno())
        os.set_blocking(fd, not nonblocking)
        os.set_inheritable(fd, not cloexec)
        return fd

    def close(self) -> None:
        """Close it; the duplicates are their owners' to close."""
        self._outer.close()


class PollDescriptor(Descriptor):
    """Both ends: ``outer`` polls, ``inner`` makes it."""

    def __init__(self) -> None:
        outer, self._inner = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
        super().__init__(outer)
        self._inner.settimeout(None)
        self._in_error = False

    def show(self, mask: int) -> None:
        """Make poll say POLLIN, POLLERR or 0, and POLLOUT besides, where it said something else."""
        try:
            if mask == select.POLLIN:
                self._inner.send(b"\0", socket.MSG_DONTWAIT)
            elif mask == select.POLLERR:
                self._set_error()
            else:
                if self._in_error:
                    self._clear_error()
                self._take_datagram()
        except OSError:
            # Somebody who holds a duplicate treated it as a socket and spoilt it: for themselves,
            # and not for those whose events are shown here.
            return

    def close(self) -> None:
        """Close both ends; the duplicates are their owners' to close."""
        super().close()
        self._inner.close()

    def _take_datagram(self) -> None:
        try:
            self._outer.recv(1, socket.MSG_DONTWAIT)
        except BlockingIOError:
            return

    def _set_error(self) -> None:
        if self._in_error:
            return
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as stranger:
            stranger.bind("")
            self._in_error = True
            self._take_datagram()
            self._outer.send(b"\0", socket.MSG_DONTWAIT)
            # The driver signals events alone, and this is none.
            flags = fcntl.fcntl(self._outer, fcntl.F_GETFL)
            fcntl.fcntl(self._outer, fcntl.F_SETFL, flags & ~os.O_ASYNC)
            self._inner.connect(stranger.getsockname())
            fcntl.fcntl(self._outer, fcntl.F_SETFL, flags)

    def _clear_error(self) -> None:
        self._in_error = False
        self._outer.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        if not self._outer.getsockname():
            self._outer.bind("")
        self._inner.connect(self._outer.getsockname())


def identity(fd: int) -> tuple[int, int]:
    """Return what two descriptors of one socket have in common: device and inode number.

    Raises:
        OSError: EBADF.
    """
    status = os.fstat(fd)
    return status.st_dev, status.st_ino

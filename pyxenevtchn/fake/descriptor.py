"""A descriptor that polls like the driver's: one end of a pair of Unix datagram sockets.

A datagram in its queue makes it readable, for select, poll, epoll, asyncio and SIGIO alike; they
are woken once, when the datagram arrives. It is always writable. It can also be made POLLERR: when
the peer of a datagram socket disconnects with datagrams unread, the socket has ECONNRESET pending
(Linux).
"""

import errno
import fcntl
import os
import secrets
import select
import socket

from .epoll_watchers import edge_triggered
from .sockets import DATAGRAM, Socket, pair


class Descriptor:
    """The end that polls.

    Callers get duplicates of it; this one is open until ``close``.

    Attributes:
        identity: device and inode number of the socket, equal for all duplicates.
    """

    def __init__(self, outer: Socket) -> None:
        self._outer = outer
        self.identity: tuple[int, int] = identity(self._outer.fileno())

    def fileno(self) -> int:
        """Return this descriptor, or -1 while it is closed here."""
        return self._outer.fileno()

    def close(self) -> None:
        """Close it; duplicates stay open."""
        self._outer.close()


class PollDescriptor(Descriptor):
    """Both ends: the inner one controls how the outer one polls.

    The driver wakes nobody when the ring overflows, so an edge-triggered epoll does not report it.
    A socket cannot become POLLERR without waking. So while such an epoll watches it, it stays
    POLLIN at the first ``show`` of POLLERR and becomes POLLERR at the second, that of the read
    which fails.

    A server need not keep the outer end open: ``close_outer`` closes it, and ``take_outer`` gets it
    back from a client. Meanwhile only POLLIN and POLLERR can be shown.

    Args:
        pid: the process whose epolls may watch it.
        prefix: how the outer end's name in the abstract namespace begins, so that a process with a
            duplicate can recognize it; empty for no name.
    """

    def __init__(self, pid: int, prefix: bytes = b"") -> None:
        outer, self._inner = pair()
        super().__init__(outer)
        self._in_error = False
        # Whether it became POLLERR while the outer end, which may be readable, was closed here.
        self._is_readable_in_error = False
        self._pid = pid
        self._showed_error = False
        if prefix:
            _bind(outer, prefix)
        self._load()

    @property
    def inner(self) -> int:
        """The descriptor of the inner end: to connect it elsewhere shows POLLERR."""
        return self._inner.fileno()

    def close_outer(self) -> None:
        """Close the outer end here; duplicates keep it alive."""
        self._outer.close()

    def take_outer(self, fd: int) -> None:
        """Take ``fd``, a duplicate, as the outer end; close it if the outer end is open here."""
        if self.fileno() >= 0:
            os.close(fd)
            return
        blocking = os.get_blocking(fd)
        self._outer = Socket(DATAGRAM, fd)
        # O_NONBLOCK stays as the duplicates' owners set it.
        os.set_blocking(fd, blocking)
        if self._is_readable_in_error:
            # A read of the datagram takes the error, too.
            self._clear_error()
            self._set_error()

    def show(self, mask: int) -> None:
        """Change what poll reports besides POLLOUT to POLLIN, POLLERR or 0."""
        try:
            if mask == select.POLLIN:
                self._inner.send(b"\0", socket.MSG_DONTWAIT)
            elif mask == select.POLLERR:
                if self._showed_error or not edge_triggered(self._pid, self.identity[1]):
                    self._set_error()
                self._showed_error = True
            else:
                self._showed_error = False
                if self._in_error:
                    self._clear_error()
                self._take_datagram()
        except OSError:
            # A process with a duplicate used it as a socket and broke it. Only that process may
            # notice, not the sender of the event that is shown here.
            return

    def close(self) -> None:
        """Close both ends; duplicates of the outer one stay open."""
        super().close()
        self._inner.close()

    def _load(self) -> None:
        # The datagram that the inner end leaves unread when it disconnects.
        self._outer.send(b"\0", socket.MSG_DONTWAIT)

    def _take_datagram(self) -> None:
        try:
            self._outer.recv(1, socket.MSG_DONTWAIT)
        except BlockingIOError:
            return

    def _set_error(self) -> None:
        if self._in_error:
            return
        self._in_error = True
        if self.fileno() < 0:
            self._is_readable_in_error = True
            disconnect(self._inner)
            return
        self._take_datagram()
        # The driver sends SIGIO for events only, not for an overflow.
        flags = fcntl.fcntl(self._outer, fcntl.F_GETFL)
        fcntl.fcntl(self._outer, fcntl.F_SETFL, flags & ~os.O_ASYNC)
        disconnect(self._inner)
        fcntl.fcntl(self._outer, fcntl.F_SETFL, flags)

    def _clear_error(self) -> None:
        self._outer.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        self._in_error = self._is_readable_in_error = False
        if not self._outer.getsockname():
            self._outer.bind("")
        self._inner.connect(self._outer.getsockname())
        self._load()


def disconnect(inner: Socket) -> None:
    """Disconnect the socket from its peer, which then has ECONNRESET pending."""
    with Socket(DATAGRAM) as stranger:
        stranger.bind("")
        inner.connect(stranger.getsockname())


def _bind(outer: Socket, prefix: bytes) -> None:
    while True:
        try:
            outer.bind(b"\0%b%08x" % (prefix, secrets.randbits(32)))
        except OSError as error:
            if error.errno != errno.EADDRINUSE:
                raise
        else:
            return


def identity(fd: int) -> tuple[int, int]:
    """Return the device and inode number, equal for two descriptors of one socket.

    Raises:
        OSError: EBADF.
    """
    status = os.fstat(fd)
    return status.st_dev, status.st_ino

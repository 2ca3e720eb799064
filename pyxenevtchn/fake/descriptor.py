"""A descriptor that polls like the driver's: one end of a pair of Unix datagram sockets.

A datagram in its queue makes it readable, for select, poll, epoll, asyncio and SIGIO alike, and
they hear of it once, as the datagram comes. It is writable always. And it can be given POLLERR: a
datagram socket whose peer lets go of it with mail still unread has ECONNRESET pending (Linux).
"""

import errno
import fcntl
import os
import secrets
import select
import socket

from .epoll_watchers import edge_triggered


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

    def fileno(self) -> int:
        """Return the one here, or -1 if it is not here now."""
        return self._outer.fileno()

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
    """Both ends: ``outer`` polls, ``inner`` makes it.

    The driver wakes nobody as the ring overflows: an edge-triggered epoll hears nothing of it. This
    cannot become POLLERR without that; so where there is such an epoll it is POLLIN until POLLERR
    is said for the second time, with the read that fails.

    Who shows what a file holds to other processes need not have the outer end all the time: it is
    let go, and taken back from one of them. Meanwhile only POLLIN and POLLERR can be shown.

    Args:
        pid: the process whose epolls can watch it.
        prefix: what the outer end's name begins with, in the abstract namespace, so that whoever
            has a duplicate finds out what it is; empty for no name.
    """

    def __init__(self, pid: int, prefix: bytes = b"") -> None:
        outer, self._inner = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
        super().__init__(outer)
        self._inner.settimeout(None)
        self._in_error = False
        self._pid = pid
        self._said_error = False
        if prefix:
            _bind(outer, prefix)
        self._load()

    @property
    def inner(self) -> int:
        """The descriptor of the inner end: whoever connects it elsewhere shows POLLERR."""
        return self._inner.fileno()

    def let_go(self) -> None:
        """Close the outer end here; those who have duplicates of it keep it alive."""
        self._outer.close()

    def take(self, fd: int) -> None:
        """Have the outer end again: ``fd`` is a duplicate of it, or is closed if it is there."""
        if self.fileno() >= 0:
            os.close(fd)
            return
        blocking = os.get_blocking(fd)
        self._outer = socket.socket(fileno=fd)
        if self._outer.gettimeout() is not None:
            # Whatever socket.setdefaulttimeout says, O_NONBLOCK is the duplicates' owners' to set.
            self._outer.settimeout(None)
            os.set_blocking(fd, blocking)
        if self._in_error:
            self._take_datagram()

    def show(self, mask: int) -> None:
        """Make poll say POLLIN, POLLERR or 0, and POLLOUT besides, where it said something else."""
        try:
            if mask == select.POLLIN:
                self._inner.send(b"\0", socket.MSG_DONTWAIT)
            elif mask == select.POLLERR:
                if self._said_error or not edge_triggered(self._pid, self.identity[1]):
                    self._set_error()
                self._said_error = True
            else:
                self._said_error = False
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

    def _load(self) -> None:
        # The mail that the inner end leaves unread when it lets go of the outer one.
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
            disconnect(self._inner)
            return
        self._take_datagram()
        # The driver signals events alone, and this is none.
        flags = fcntl.fcntl(self._outer, fcntl.F_GETFL)
        fcntl.fcntl(self._outer, fcntl.F_SETFL, flags & ~os.O_ASYNC)
        disconnect(self._inner)
        fcntl.fcntl(self._outer, fcntl.F_SETFL, flags)

    def _clear_error(self) -> None:
        self._outer.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        self._in_error = False
        if not self._outer.getsockname():
            self._outer.bind("")
        self._inner.connect(self._outer.getsockname())
        self._load()


def disconnect(inner: socket.socket) -> None:
    """Have the socket let go of its peer, which then has ECONNRESET pending."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as stranger:
        stranger.bind("")
        inner.connect(stranger.getsockname())


def _bind(outer: socket.socket, prefix: bytes) -> None:
    while True:
        try:
            outer.bind(b"\0%b%08x" % (prefix, secrets.randbits(32)))
        except OSError as error:
            if error.errno != errno.EADDRINUSE:
                raise
        else:
            return


def identity(fd: int) -> tuple[int, int]:
    """Return what two descriptors of one socket have in common: device and inode number.

    Raises:
        OSError: EBADF.
    """
    status = os.fstat(fd)
    return status.st_dev, status.st_ino

"""Resumes: hears that this domain may have been saved and restored."""

import errno
import os
import select
import time
from types import TracebackType
from typing import Self

from .descriptors import Descriptor
from .errors import ChannelClosed
from .timeouts import POLL_MOST, to_nanoseconds


class Resumes:
    """Hears that this domain may have been resumed: after a restore every open handle is stale.

    It is a hint and no proof. Linux sets its clock as it resumes, and tells whoever has a timer
    that a change of the clock cancels (timekeeping_resume and timerfd_clock_was_set in the kernel).
    So it is also set off by a checkpoint, which every port survives, and by whoever sets the clock,
    ``date`` or an NTP daemon that steps it; not by one that slews it. The proof is
    ``check_stale`` of each handle that is open; or ``domid`` in XenStore, which has
    changed after a restore: then call ``mark_stale`` of each handle.

    It begins to listen when it is made: make it before the handles, or at the start of the program.

    Threads: any thread may call anything at any time. Those that wait on one object share what it
    hears: one of them is told. ``close`` wakes all of them, with ChannelClosed. The descriptors
    stay open until this object is garbage, so no call ever meets another file.

    Fork: it belongs to the process that made it. A child may only close it.
    """

    closed: bool = True
    """Whether it is closed."""

    def __init__(self, source: Descriptor | None = None) -> None:
        """Begin to listen.

        Args:
            source: for a fake: a descriptor that never blocks, and can be read after a resume. None
                for this machine's clock.

        Raises:
            OSError: EMFILE.
        """
        self._owner = os.getpid()
        self._source = source or _make_timer()
        # Can be read once this is closed, or has heard what it could not tell.
        self._signal = Descriptor(os.eventfd, 0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self._epoll = select.epoll()
        self._epoll.register(self._source.number, select.EPOLLIN)
        self._epoll.register(self._signal.number, select.EPOLLIN)
        self.closed = False

    def fileno(self) -> int:
        """Return a descriptor for select, poll, epoll and event loops.

        Readable while ``wait`` would not wait: once there was a resume, until ``wait`` has told of
        it. Readable for good once this is closed: have the loop forget it first.

        Raises:
            ChannelClosed: it is closed.
            RuntimeError: it belongs to the parent process.
        """
        self._check_usable()
        return self._epoll.fileno()

    def wait(self, timeout: float | None = None) -> bool:
        """Wait until this domain may have been resumed.

        A signal whose handler returns does not end it (PEP 475).

        Args:
            timeout: seconds; None waits forever, 0 not at all.

        Returns:
            True where it may have been resumed since this told so last, or since this was made;
            however often, it is told once. False when the time is over.

        Raises:
            ChannelClosed: it was closed, before or while this waited.
            RuntimeError: it belongs to the parent process.
            ValueError: the timeout is negative or not a number.
        """
        left = to_nanoseconds(timeout)
        end = time.monotonic_ns() + left
        while True:
            self._check_usable()
            self._epoll.poll(None if left < 0 else min(left / 1e9, POLL_MOST // 1000))
            self._check_usable()
            if self._take():
                return True
            if left >= 0:
                left = max(0, end - time.monotonic_ns())
                if not left:
                    return False

    def close(self) -> None:
        """Stop listening, and wake those who wait; it may be called again."""
        self.closed = True
        if not self._is_inherited():
            os.eventfd_write(self._signal.number, 1)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        state = "closed" if self.closed else f"fd={self._epoll.fileno()}"
        return f"<{type(self).__name__} {state}>"

    def _take(self) -> bool:
        """Take what was heard; return whether there was something."""
        heard = told = False
        try:
            for descriptor in (self._source, self._signal):
                heard = _read(descriptor.number) or heard
            told = True
        finally:
            # A signal handler that raises keeps it from the caller: better told twice than never.
            if self.closed or not told:
                os.eventfd_write(self._signal.number, 1)
        return heard

    def _is_inherited(self) -> bool:
        return os.getpid() != self._owner

    def _check_usable(self) -> None:
        if self._is_inherited():
            raise RuntimeError("this object belongs to the parent process: make one here")
        if self.closed:
            raise ChannelClosed("the Resumes object is closed")


def _make_timer() -> Descriptor:
    # Only those who listen to the clock load the compiled code.
    from .kernel import make_clock_timer  # noqa: PLC0415

    return make_clock_timer()


def _read(fd: int) -> bool:
    """Read a descriptor that never blocks; return whether there was something."""
    try:
        os.read(fd, 8)
    except BlockingIOError:
        return False
    except OSError as error:
        # A timer's way to say that the clock was set. It goes on listening (timerfd_read).
        if error.errno != errno.ECANCELED:
            raise
    return True

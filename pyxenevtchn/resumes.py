"""Resumes: reports that this domain may have been saved and restored."""

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
    """Reports that this domain may have been resumed: after a restore every open handle is stale.

    A report is a hint, not proof. Linux sets its clock when it resumes, which ends timers that a
    change of the clock cancels (timekeeping_resume and timerfd_clock_was_set in the kernel). So
    there is also a report after a checkpoint, which every port survives, and after someone sets the
    clock, such as ``date`` or an NTP daemon that steps it; slewing it causes none. For proof, call
    ``check_stale`` of each open handle; or read ``domid`` in XenStore: if it has changed, call
    ``mark_stale`` of each handle.

    It listens from its creation: create it before the handles, or at the start of the program.

    Threads: any thread may call any method at any time. If several threads wait on one object, each
    report goes to one of them. ``close`` wakes all of them, with ChannelClosed. The descriptors
    stay open until this object is garbage-collected, so no call ever reaches another file.

    Fork: it belongs to the process that created it. A child may only close it.
    """

    closed: bool = True
    """Whether it is closed."""

    def __init__(self, source: Descriptor | None = None) -> None:
        """Start listening.

        Args:
            source: for a fake: a nonblocking descriptor that becomes readable after a resume. None:
                this machine's clock.

        Raises:
            OSError: EMFILE.
        """
        self._owner = os.getpid()
        self._source = source or Descriptor.clock()
        # Readable after close, and while a report has not reached its caller.
        self._signal = Descriptor.eventfd()
        self._epoll = select.epoll()
        self._epoll.register(self._source.number, select.EPOLLIN)
        self._epoll.register(self._signal.number, select.EPOLLIN)
        self.closed = False

    def fileno(self) -> int:
        """Return a descriptor for select, poll, epoll and event loops.

        Readable while ``wait`` would return at once: from a resume until ``wait`` has reported it.
        After ``close`` it is always readable: remove it from the event loop first.

        Raises:
            ChannelClosed: it is closed.
            RuntimeError: it belongs to the parent process.
        """
        self._check_usable()
        return self._epoll.fileno()

    def wait(self, timeout: float | None = None) -> bool:
        """Wait until this domain may have been resumed.

        A signal whose handler returns does not end the wait (PEP 475).

        Args:
            timeout: seconds; None waits forever, 0 does not wait.

        Returns:
            True if the domain may have been resumed since the last True, or since this object was
            created; several resumes are one report. False if the timeout expired.

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
        """Stop listening, and wake all waiters; it may be called again."""
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
        """Take a report; return whether there was one."""
        found = taken = False
        try:
            for descriptor in (self._source, self._signal):
                found = _read(descriptor.number) or found
            taken = True
        finally:
            # If a signal handler raises, the caller does not get the report: report it again.
            if self.closed or not taken:
                os.eventfd_write(self._signal.number, 1)
        return found

    def _is_inherited(self) -> bool:
        return os.getpid() != self._owner

    def _check_usable(self) -> None:
        if self._is_inherited():
            raise RuntimeError("this object belongs to the parent process: create a new one")
        if self.closed:
            raise ChannelClosed("the Resumes object is closed")


def _read(fd: int) -> bool:
    """Read a nonblocking descriptor; return whether it was readable."""
    try:
        os.read(fd, 8)
    except BlockingIOError:
        return False
    except OSError as error:
        # The timer reports that the clock was set, and goes on (timerfd_read).
        if error.errno != errno.ECANCELED:
            raise
    return True

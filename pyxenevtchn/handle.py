"""An open device in use: which calls are under way, who waits, and when it may be closed."""

import os
import threading
import warnings
import weakref
from collections import deque
from types import TracebackType
from typing import NoReturn, Protocol

from .device import Device, poll_device
from .errors import ChannelClosed


class Watcher(Protocol):
    """An event loop's part in a handle: it borrows the handle for as long as it watches it."""

    def closing(self) -> None:
        """Stop watching now, or soon: the handle is being closed, by whatever thread."""

    def let_go(self) -> bool:
        """Stop watching if nobody waits; tell whether it did."""


class Handle:
    """Lends a device to the calls that use it, and closes it when the last one is done.

    ``with handle as device:`` borrows it. Closing refuses new calls, wakes those that wait, and
    leaves the descriptor open until the last of them has gone: so no call ever meets a descriptor
    number that somebody else has got meanwhile. Any thread, and a signal handler, may do
    anything here at any time; after a fork the child may only close.

    A ``with`` costs two calls, which is more than all the rest of a notify, an unmask or a wait:
    those do by hand what it does,

        try:
            handle.users.append(None)
            if not handle.usable:
                handle.refuse()
            ...handle.device...
        finally:
            handle.users.pop()
            if not handle.usable:
                handle.leave()

    Attributes:
        device: the device; to be called while it is borrowed.
        usable: whether it may be borrowed: it is not closed, and not the parent process's.
        users: an entry for each call under way. A deque's append and pop are atomic, and a third of
            the time of a lock, which every call would pay twice; a list's would free and get memory
            at each first and last.
        closed: whether close has been called; a call under way may keep the descriptor a bit
            longer.
        wake: a descriptor that can be read once the handle is closed: who waits, waits on it as
            well. -1 before the first ``make_wake``.
        watcher: the one event loop that watches the descriptor, if any.
    """

    def __init__(self, device: Device) -> None:
        self.device = device
        self.usable: bool = True
        self.users: deque[None] = deque()
        self.closed: bool = False
        self.wake: int = -1
        self.watcher: Watcher | None = None
        self._inherited = False
        self._released = False
        self._lock = threading.RLock()  # a signal handler may come back while we hold it
        _handles.add(self)

    def __enter__(self) -> Device:
        try:
            # First in, then look: so a close that comes meanwhile either sees us or is seen.
            self.users.append(None)
            if not self.usable:
                self.refuse()
            return self.device  # noqa: TRY300
        except BaseException:  # a signal handler's too
            self.__exit__(None, None, None)
            raise

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.users.pop()
        if not self.usable:
            self.leave()

    def refuse(self) -> NoReturn:
        """Tell a call why it may not borrow the device.

        Raises:
            ChannelClosed: the handle is closed.
            RuntimeError: it is the parent process's.
        """
        if self.closed or not self._inherited:
            raise ChannelClosed(f"{self.device.name}: the handle is closed")
        raise RuntimeError(
            "this handle belongs to the parent process: after a fork the child may only close it."
            " Open a handle here, or adopt a duplicate of the descriptor with from_fd()"
        )

    def leave(self) -> None:
        """Close the device if its handle has been closed and nobody uses it any more."""
        if self.closed and not self.users:
            self._release()

    def fileno(self) -> int:
        """Return the device's descriptor.

        Raises:
            ChannelClosed: the handle is closed.
        """
        if self.closed:
            self.refuse()
        return self.device.fileno()

    def make_wake(self) -> int:
        """Make ``wake``, for the first who waits and has borrowed the handle, and return it.

        Raises:
            OSError: EMFILE.
        """
        with self._lock:
            if self.wake < 0:
                self.wake = os.eventfd(0)
                if self.closed:
                    os.eventfd_write(self.wake, 1)
        return self.wake

    def poll(self, device: Device, timeout: float | None) -> int:
        """Wait until something can be read, at most ``timeout`` seconds (None: for ever).

        Args:
            device: this handle's, borrowed from it.
            timeout: seconds.

        Returns:
            POLLIN, POLLERR after an overflow, or 0 when the time is over.

        Raises:
            ChannelClosed: the handle was closed while this waited.
        """
        ready = poll_device(device, self.make_wake(), timeout)
        if self.closed:
            raise ChannelClosed(f"{device.name}: the handle was closed while a call waited")
        return ready

    def close(self) -> None:
        """Close, or do nothing if it is closed already."""
        if self._inherited:
            self.closed = True
            self._release()
            return
        with self._lock:
            if self.closed:
                return
            self.users.append(None)
            self.closed = True
            self.usable = False
            try:
                if self.wake >= 0:
                    os.eventfd_write(self.wake, 1)
                if self.watcher is not None:
                    self.watcher.closing()
            finally:
                self.__exit__(None, None, None)

    def __del__(self) -> None:
        if not self.closed:
            if not self._inherited:
                warnings.warn(
                    f"{self.device.name}: the handle was never closed",
                    ResourceWarning,
                    source=self,
                    stacklevel=1,
                )
            self.close()
        # Nobody calls any more, but a signal handler's exception may have cut a call's end short.
        self._release()

    def disown(self) -> None:
        """Leave the handle, in a child process, to the parent."""
        self.usable = False
        self._inherited = True
        # Our copy of the lock may have been held by a thread that this process has not got.
        self._lock = threading.RLock()

    def _release(self) -> None:
        with self._lock:
            if self._released:
                return
            self._released = True
        try:
            self.device.close()
        finally:
            if self.wake >= 0:
                os.close(self.wake)


_handles: weakref.WeakSet[Handle] = weakref.WeakSet()


def _disown() -> None:
    for handle in list(_handles):
        handle.disown()


os.register_at_fork(after_in_child=_disown)

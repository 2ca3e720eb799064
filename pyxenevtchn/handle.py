"""An open device in use: which calls are under way, who waits, and when it may be closed."""

import contextlib
import math
import os
import select
import threading
import warnings
from types import TracebackType
from typing import Protocol

from .device import Device
from .errors import ChannelClosed

_forks = 0


def _count_fork() -> None:
    global _forks  # noqa: PLW0603 - one number for the process, changed by fork alone
    _forks += 1


os.register_at_fork(after_in_child=_count_fork)

# The longest wait that poll(2) takes; longer ones are made of several.
_POLL_MAX_MS = 2**31 - 1


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

    Attributes:
        watcher: the one event loop that watches the descriptor, if any.
    """

    def __init__(self, device: Device) -> None:
        self._device = device
        self._lock = threading.RLock()  # a signal handler may come back while we hold it
        # An entry for each call under way. Appending and popping are atomic, and a third of the
        # time of a lock, which every call would pay twice.
        self._users: list[None] = []
        self._closed = False
        self._released = False
        self._forks = _forks
        self._wake: int | None = None
        # A poll object serves one thread at a time; those that nobody uses now.
        self._pollers: list[select.poll] = []
        self.watcher: Watcher | None = None

    @property
    def device(self) -> Device:
        """The device, without a promise that it is open: for names, not for calls."""
        return self._device

    @property
    def closed(self) -> bool:
        """Whether close has been called; a call under way may keep the descriptor a bit longer."""
        return self._closed

    def __enter__(self) -> Device:
        if self._forks != _forks:
            raise RuntimeError(
                "this handle belongs to the parent process: after a fork the child may only close"
                " it. Open a handle here, or adopt a duplicate of the descriptor with from_fd()"
            )
        try:
            # First in, then look: so a close that comes meanwhile either sees us or is seen.
            self._users.append(None)
            if self._closed:
                raise ChannelClosed(f"{self._device.name}: the handle is closed")  # noqa: TRY301
            return self._device  # noqa: TRY300
        except BaseException:  # a signal handler's too
            self.__exit__(None, None, None)
            raise

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._users.pop()
        if self._closed and not self._users:
            self._release()

    def fileno(self) -> int:
        """Return the device's descriptor.

        Raises:
            ChannelClosed: the handle is closed.
        """
        if self._closed:
            raise ChannelClosed(f"{self._device.name}: the handle is closed")
        return self._device.fileno()

    def poll(self, device: Device, timeout: float | None) -> int:
        """Wait until something can be read, at most ``timeout`` seconds (None: for ever).

        Args:
            device: this handle's, borrowed from it.
            timeout: seconds.

        Returns:
            POLLIN, POLLERR after an overflow, or 0 when the time is over.

        Raises:
            ChannelClosed: the handle was closed while this waited.
            ValueError: the timeout is negative or not a number.
        """
        if timeout is None:
            left = math.inf
        elif timeout >= 0:
            left = timeout * 1000
        else:
            raise ValueError(f"timeout must be None or at least 0 seconds, not {timeout}")
        poller = self._take_poller(device)
        try:
            ready = poller.poll(min(left, _POLL_MAX_MS))
            while not ready and left > _POLL_MAX_MS:
                left -= _POLL_MAX_MS
                ready = poller.poll(min(left, _POLL_MAX_MS))
        finally:
            self._pollers.append(poller)
        if self._closed:
            raise ChannelClosed(f"{device.name}: the handle was closed while a call waited")
        return ready[0][1] if ready else 0

    def close(self) -> None:
        """Close, or do nothing if it is closed already."""
        if self._forks != _forks:
            # Our copy of the lock may have been held by a thread that this process has not got.
            self._closed = True
            self._lock = threading.RLock()
            self._release()
            return
        with self._lock:
            if self._closed:
                return
            self._users.append(None)
            self._closed = True
            try:
                if self._wake is not None:
                    os.eventfd_write(self._wake, 1)
                if self.watcher is not None:
                    self.watcher.closing()
            finally:
                self.__exit__(None, None, None)

    def __del__(self) -> None:
        if not self._closed:
            if self._forks == _forks:
                warnings.warn(
                    f"{self._device.name}: the handle was never closed",
                    ResourceWarning,
                    source=self,
                    stacklevel=1,
                )
            self.close()
        # Nobody calls any more, but a signal handler's exception may have cut a call's end short.
        self._release()

    def _take_poller(self, device: Device) -> select.poll:
        with contextlib.suppress(IndexError):
            return self._pollers.pop()
        with self._lock:
            if self._closed:
                raise ChannelClosed(f"{self._device.name}: the handle is closed")
            if self._wake is None:
                self._wake = os.eventfd(0)
            poller = select.poll()
            poller.register(device.fileno(), select.POLLIN)
            poller.register(self._wake, select.POLLIN)
            return poller

    def _release(self) -> None:
        with self._lock:
            if self._released:
                return
            self._released = True
        try:
            self._device.close()
        finally:
            if self._wake is not None:
                os.close(self._wake)

"""The lock of a hypervisor's models."""

import os
import threading
import weakref


class Lock:
    """A reentrant lock that belongs to the process that made it.

    A child has a copy of the models, and of the lock: if another thread of the parent held that at
    the fork, nobody releases the copy. So a child gets an error and does not wait.

    Attributes:
        inner: the lock itself, for those who know that they are in the right process.
    """

    def __init__(self) -> None:
        self.inner: threading.RLock = threading.RLock()
        self._is_inherited = False
        _locks.add(self)

    def inherit(self) -> None:
        """Refuse everybody from now on."""
        self._is_inherited = True

    def __enter__(self) -> None:
        if self._is_inherited:
            raise RuntimeError(
                "this Hypervisor belongs to the parent process: a child needs one of its own, or"
                " the shared one of `xenevtchn fake serve`"
            )
        self.inner.acquire()

    def __exit__(self, *_: object) -> None:
        self.inner.release()


_locks: weakref.WeakSet[Lock] = weakref.WeakSet()


def _leave_all_to_parent() -> None:
    for lock in list(_locks):
        lock.inherit()


os.register_at_fork(after_in_child=_leave_all_to_parent)

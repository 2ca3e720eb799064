"""FakeDevice: a Device whose driver and hypervisor are models, with a descriptor that polls."""

import contextlib
import os
import threading
from collections import deque
from collections.abc import Hashable
from typing import Protocol, Self

from ..abi import PORT_BYTES, Packed, Request, unpack_ports
from ..device import poll_device
from ..errors import operation_error
from .descriptor import Descriptor, identity
from .kernel import Kernel


class File(Protocol):
    """An open file of a driver, here or in another process (see driver.OpenFile)."""

    def ioctl(self, request: Request, *arguments: int) -> int:
        """Make a request."""

    def notify_many(self, ports: Packed) -> tuple[int, int]:
        """Make NOTIFY of each port."""

    def read(self, size: int) -> bytes:
        """Take events, never waiting."""

    def write(self, data: Packed) -> int:
        """Enable ports again."""

    def release(self) -> None:
        """Close: unbind every port."""

    def disown(self) -> None:
        """Leave it, in a child process, to the parent."""


class Description:
    """An open file and its descriptors: what duplicates share, until the last one is closed.

    Args:
        file: the file.
        descriptor: what polls as the file does.
        lock: held over every operation of the file.
        port_space: equal for two files whose ports are those of one domain.
    """

    def __init__(
        self, file: File, descriptor: Descriptor, lock: threading.RLock, port_space: Hashable
    ) -> None:
        self.file = file
        self.descriptor = descriptor
        self.lock = lock
        self.port_space = port_space
        self.fds: set[int] = set()
        self.inherited = False
        _descriptions[descriptor.identity] = self

    def release_if_unused(self) -> None:
        """Release the file if the last of its descriptors has been closed, by whomever."""
        self.fds = {fd for fd in self.fds if self._is_open(fd)}
        if not self.fds and self.descriptor.identity in _descriptions:
            del _descriptions[self.descriptor.identity]
            self.file.release()
            self.descriptor.close()

    def _is_open(self, fd: int) -> bool:
        with contextlib.suppress(OSError):
            return identity(fd) == self.descriptor.identity
        return False


# The descriptions that are open, by what duplicates of their descriptors have in common.
_descriptions: dict[tuple[int, int], Description] = {}


def _disown() -> None:
    # In a child: the sockets are the parent's too, and have to go on saying what its rings hold.
    for description in _descriptions.values():
        description.inherited = True
        description.file.disown()


os.register_at_fork(after_in_child=_disown)


class FakeDevice:
    """A descriptor of an open file of a fake domain's driver (see device.Device).

    Any thread, and a signal handler, may make any call but ``close``, which wants to be the last
    one. After a fork the child may only close.
    """

    def __init__(
        self, description: Description, fd: int, name: str, *, blocking: bool, closefd: bool
    ) -> None:
        self.name = name
        self.blocking = blocking
        self._description = description
        self._file = description.file
        self._lock = description.lock
        self._fd = fd
        self._closefd = closefd
        description.fds.add(fd)

    @classmethod
    def open(
        cls, description: Description, name: str, *, nonblocking: bool = True, cloexec: bool = True
    ) -> Self:
        """Make the first descriptor of a file that has just been opened.

        Args:
            description: the file; it is released where this fails.
            name: the device's name, for messages.
            nonblocking: whether ``read`` fails where it would have to wait.
            cloexec: whether the descriptor is closed when the process executes another program.

        Raises:
            OSError: EMFILE.
        """
        with description.lock:
            try:
                fd = description.descriptor.duplicate(nonblocking=nonblocking, cloexec=cloexec)
            except BaseException:
                description.release_if_unused()
                raise
            return cls(description, fd, name, blocking=not nonblocking, closefd=True)

    @property
    def port_space(self) -> Hashable:
        return self._description.port_space

    def fileno(self) -> int:
        return self._fd

    def ioctl(self, request: Request, *arguments: int) -> int:
        try:
            with self._lock:
                return self._file.ioctl(request, *arguments)
        except OSError as error:
            raise self._error(request, arguments, error) from None

    def notify(self, port: int) -> None:
        self.ioctl(Request.NOTIFY, port)

    def notify_many(self, ports: Packed) -> tuple[int, int]:
        with self._lock:
            return self._file.notify_many(ports)

    def readinto(self, buffer: memoryview) -> int:
        data = self._read(len(buffer))
        buffer[: len(data)] = data
        return len(data)

    def take(
        self,
        most: int,
        wake: int,
        timeout: float | None,
        backlog: deque[int],  # noqa: ARG002 - a fake's own steps are no safer from a signal handler
    ) -> list[int]:
        if timeout == 0 or poll_device(self, wake, timeout):
            with contextlib.suppress(BlockingIOError):  # another reader was faster
                return unpack_ports(self._read(most * PORT_BYTES))
        return []

    def read(self, size: int) -> bytes:
        while True:
            try:
                return self._read(size)
            except BlockingIOError:
                if not self.blocking:
                    raise
            poll_device(self, -1, None)

    def _read(self, size: int) -> bytes:
        try:
            with self._lock:
                return self._file.read(size)
        except OSError as error:
            raise self._error("read", (size,), error) from None

    def write(self, data: Packed) -> int:
        try:
            with self._lock:
                return self._file.write(data)
        except OSError as error:
            raise self._error("write", (len(data),), error) from None

    def close(self) -> None:
        fd, self._fd = self._fd, -1
        if fd < 0:
            return
        if self._description.inherited:
            # Without the lock, which another thread may have held as the parent forked.
            if self._closefd:
                os.close(fd)
            self._description.descriptor.close()
            return
        with self._lock:
            if self._closefd:
                os.close(fd)
            self._description.release_if_unused()

    def _error(self, operation: str, arguments: tuple[int, ...], error: OSError) -> OSError:
        made = operation_error(operation, arguments, error.errno or 0, self.name)
        for note in getattr(error, "__notes__", ()):
            made.add_note(note)
        return made


def adopt(fd: int, closefd: bool) -> FakeDevice | None:
    """Make a device of a duplicate of a fake's descriptor, or return None if it is not one.

    The two share ring and ports; these are let go when the last of the descriptors that are
    devices is closed.

    Args:
        fd: a descriptor, perhaps of a fake that this process has opened.
        closefd: whether closing the device closes it.

    Raises:
        OSError: EBADF.
        RuntimeError: the fake was opened before this process forked from its parent.
    """
    description = _descriptions.get(identity(fd))
    if description is None:
        return None
    if description.inherited:
        raise RuntimeError("this fake belongs to the parent process: a child cannot use it")
    with description.lock:
        blocking = os.get_blocking(fd)
        return FakeDevice(description, fd, f"fd {fd}", blocking=blocking, closefd=closefd)


def open_files(kernel: Kernel) -> list[str]:
    """List the files of a domain's driver that are open, by their descriptors, for messages."""
    mine = [each for each in list(_descriptions.values()) if each.port_space is kernel]
    for description in mine:
        description.release_if_unused()
    return [f"a handle with fd {sorted(each.fds)}" for each in mine if each.fds]

"""FakeDevice: a device whose driver and hypervisor are models, with a descriptor that polls."""

import contextlib
import os
import threading
from collections.abc import Callable, Hashable
from typing import Any, Protocol, Self

from ..abi import Packed, Request
from ..descriptors import Descriptor as OwnDescriptor
from ..device import Device
from ..errors import operation_error
from ..opening import register_descriptors
from ..ports import Port
from .descriptor import Descriptor, identity
from .file_operations import attach
from .model.failure import Refusal
from .model.linux import Kernel


class File(Protocol):
    """An open file of a driver, here or in another process (see driver.OpenFile).

    Attributes:
        stale: whether it must not be closed any more, as far as that is known here.
    """

    stale: bool

    def ioctl(self, request: Request, *arguments: int) -> int:
        """Make a request."""

    def take(self, room: int) -> list[int]:
        """Take events, at most ``room``, without waiting."""

    def enable(self, ports: list[int]) -> None:
        """Enable ports, at most a page, again."""

    def read(self, size: int) -> bytes:
        """Take events as the system call does, without waiting."""

    def write(self, data: Packed) -> int:
        """Enable ports as the system call does; return the bytes taken."""

    def port_table(self) -> tuple[Port, ...]:
        """List the ports of the domain."""

    def release(self) -> None:
        """Close: unbind every port."""

    def disown(self) -> None:
        """After a fork: leave the file to the parent process."""


class Description:
    """An open file and its descriptors: what duplicates share, until the last one is closed.

    Args:
        file: the file.
        descriptor: polls as the file does.
        lock: held during every operation of the file.
        port_space: equal for two files in one domain.
        reopen: opens another file of the same domain.
    """

    def __init__(
        self,
        file: File,
        descriptor: Descriptor,
        lock: threading.RLock,
        port_space: Hashable,
        reopen: "Callable[[], Description]",
    ) -> None:
        self.file = file
        self.reopen = reopen
        self.descriptor = descriptor
        self.lock = lock
        self.port_space = port_space
        self.fds: set[int] = set()
        self.inherited = False
        _descriptions[descriptor.identity] = self

    def release_if_unused(self) -> None:
        """Release the file if the last of its descriptors has been closed."""
        self.fds = {fd for fd in self.fds if self._is_open(fd)}
        if not self.fds and self.descriptor.identity in _descriptions:
            del _descriptions[self.descriptor.identity]
            self.descriptor.close()
            self.file.release()

    def _is_open(self, fd: int) -> bool:
        with contextlib.suppress(OSError):
            return identity(fd) == self.descriptor.identity
        return False


# The open descriptions, by the identity of their descriptors.
_descriptions: dict[tuple[int, int], Description] = {}


def _disown() -> None:
    # In a child: the sockets are the parent's too, and must still show the state of its rings.
    for description in _descriptions.values():
        description.inherited = True
        description.file.disown()


os.register_at_fork(after_in_child=_disown)


_REQUESTS = tuple((request, len(request.parameters)) for request in Request)


class _OpenedFile:
    """A descriptor of an open file, as the core uses it (see file_operations.Operations).

    Args:
        description: the file.
        fd: the descriptor.
        close: closes the descriptor.
    """

    def __init__(self, description: Description, fd: int, close: Callable[[], object]) -> None:
        self._description = description
        self._file = description.file
        self._lock = description.lock
        self._close = close
        description.fds.add(fd)

    def request(self, number: int, first: int, second: int) -> int:
        request, arity = _REQUESTS[number]
        try:
            with self._lock:
                if arity == 1:
                    return self._file.ioctl(request, first)
                return self._file.ioctl(request, *(first, second)[:arity])
        except Refusal as refusal:
            return -(refusal.errno or 0)

    def read(self, ports: Any, room: int) -> int:  # noqa: ANN401 - C's pointer
        try:
            with self._lock:
                taken = self._file.take(room)
        except Refusal as refusal:
            return -(refusal.errno or 0)
        count = len(taken)
        ports[0:count] = taken
        return count

    def write(self, ports: list[int]) -> int:
        try:
            with self._lock:
                self._file.enable(ports)
        except Refusal as refusal:
            return -(refusal.errno or 0)
        return 0

    def release(self, *, owned: bool) -> None:
        description = self._description
        if description.inherited:
            # Without the lock, which another thread may have held when the parent forked.
            if owned:
                self._close()
            description.descriptor.close()
            return
        with self._lock:
            if owned:
                self._close()
            description.release_if_unused()


class FakeDevice(Device):
    """A descriptor of an open file of a fake domain's driver (see device.Device)."""

    def __init__(
        self,
        description: Description,
        name: str,
        fd: int,
        close: Callable[[], object],
        *,
        blocking: bool,
    ) -> None:
        # A domain of this process is its own port space; that of a server has a name.
        super().__init__(name, blocking=blocking, space=hash(description.port_space) % 2**64)
        self._description = description
        attach(self.core, _OpenedFile(description, fd, close), fd)

    @classmethod
    def open(
        cls, description: Description, name: str, *, nonblocking: bool = True, cloexec: bool = True
    ) -> Self:
        """Make the first descriptor of a file that has just been opened.

        Args:
            description: the file; it is released if this fails.
            name: the device's name, for messages.
            nonblocking: whether ``EventChannel.read`` fails where it would wait.
            cloexec: whether the descriptor is closed when the process executes another program.

        Raises:
            OSError: EMFILE.
        """
        with description.lock, contextlib.ExitStack() as stack:
            stack.callback(description.release_if_unused)
            descriptor = OwnDescriptor.duplicate(description.descriptor.fileno(), cloexec=cloexec)
            os.set_blocking(descriptor.number, False)
            # Else the exception's frames keep it open for a while.
            stack.callback(descriptor.close)
            device = cls(
                description, name, descriptor.number, descriptor.close, blocking=not nonblocking
            )
            device.core.owned = True
            stack.pop_all()
            return device

    def reopen(self) -> "FakeDevice | OSError":
        try:
            return FakeDevice.open(self._description.reopen(), self.name)
        except Refusal as refusal:
            return operation_error("open", (), refusal.errno or 0, self.name)

    def port_table(self) -> tuple[Port, ...]:
        try:
            with self._description.lock:
                return self._description.file.port_table()
        except Refusal as refusal:
            raise operation_error("port_table", (), refusal.errno or 0, self.name) from None

    def read(self, size: int) -> bytes:
        """Take at most ``size`` bytes of pending ports off the ring, as the driver's read does.

        Raises:
            BlockingIOError: the ring is empty.
            RingOverflow: events were dropped since the last RESET.
        """
        try:
            with self._description.lock:
                return self._description.file.read(size)
        except Refusal as refusal:
            raise operation_error("read", (size,), refusal.errno or 0, self.name) from None

    def write(self, data: Packed) -> int:
        """Unmask the ports in ``data``, as the driver's write does; return the bytes taken."""
        try:
            with self._description.lock:
                return self._description.file.write(data)
        except Refusal as refusal:
            raise operation_error("write", (len(data),), refusal.errno or 0, self.name) from None


def adopt(fd: int) -> FakeDevice | None:
    """Make a device of a duplicate of a fake's descriptor, or return None if it is not one.

    The two share ring and ports, which are released when the last descriptor with a device is
    closed. The caller closes ``fd``, unless a handle that takes the device over shall.

    Args:
        fd: a descriptor, perhaps of a fake that this process has opened.

    Raises:
        OSError: EBADF.
        RuntimeError: the fake was opened before this process forked from its parent.
    """
    description = _descriptions.get(identity(fd))
    if description is None:
        return None
    if description.inherited:
        raise RuntimeError("this fake belongs to the parent process: a child cannot use it")
    blocking = os.get_blocking(fd)
    os.set_blocking(fd, False)
    with description.lock:
        return FakeDevice(description, f"fd {fd}", fd, lambda: os.close(fd), blocking=blocking)


register_descriptors(adopt)


def open_files(kernel: Kernel) -> list[str]:
    """List a domain's open files by their descriptors, for messages.

    Stale files are left out: they must stay open.
    """
    mine = [each for each in list(_descriptions.values()) if each.port_space is kernel]
    for description in mine:
        description.release_if_unused()
    return [
        f"a handle with fd {sorted(each.fds)}" for each in mine if each.fds and not each.file.stale
    ]

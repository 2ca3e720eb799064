"""FakeDevice: a Device whose driver and hypervisor are models, with a descriptor that polls."""

import contextlib
import errno
import os
import select
import sys
import threading
import time
from collections.abc import Callable, Collection, Hashable
from functools import partial
from typing import Any, NoReturn, Protocol, Self

from ..abi import PORT_BYTES, Packed, Request, pack_ports
from ..descriptors import BorrowedDescriptor, make_dead
from ..descriptors import Descriptor as OwnDescriptor
from ..device import DONE, PORTS, UNREAD, Device, Page
from ..errors import ChannelClosed, operation_error
from ..ports import Port
from ..timeouts import POLL_MOST
from .descriptor import Descriptor, identity
from .model.linux import Kernel


class File(Protocol):
    """An open file of a driver, here or in another process (see driver.OpenFile).

    Attributes:
        stale: whether it must not be closed any more, as far as that is known here.
    """

    stale: bool

    def ioctl(self, request: Request, *arguments: int) -> int:
        """Make a request."""

    def notify_many(self, ports: Packed) -> tuple[int, int]:
        """Send NOTIFY for each port."""

    def read(self, size: int) -> bytes:
        """Take events, without waiting."""

    def write(self, data: Packed) -> int:
        """Enable ports again."""

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


class FakeDevice(Device):
    """A descriptor of an open file of a fake domain's driver (see device.Device).

    Any thread, and a signal handler, may make any call at any time. After a fork the child may only
    close.
    """

    _owned = False

    def __init__(
        self, description: Description, descriptor: OwnDescriptor | BorrowedDescriptor, name: str
    ) -> None:
        self.name = name
        self.blocking: bool = os.get_blocking(descriptor.number)
        self.port_space: Hashable = description.port_space
        self._description = description
        self._file = description.file
        self._lock = description.lock
        self._fd = descriptor.number
        self._descriptor = descriptor
        self._dead = make_dead()
        self._closed = False
        description.fds.add(self._fd)

    @classmethod
    def open(
        cls, description: Description, name: str, *, nonblocking: bool = True, cloexec: bool = True
    ) -> Self:
        """Make the first descriptor of a file that has just been opened.

        Args:
            description: the file; it is released if this fails.
            name: the device's name, for messages.
            nonblocking: whether ``read`` fails where it would wait.
            cloexec: whether the descriptor is closed when the process executes another program.

        Raises:
            OSError: EMFILE.
        """
        with description.lock, contextlib.ExitStack() as stack:
            stack.callback(description.release_if_unused)
            descriptor = OwnDescriptor(description.descriptor.duplicate, nonblocking, cloexec)
            # Else the exception's frames keep it open for a while.
            stack.callback(descriptor.close)
            device = cls(description, descriptor, name)
            device.own()
            stack.pop_all()
            return device

    def own(self) -> None:
        if isinstance(self._descriptor, BorrowedDescriptor):
            self._descriptor.owned = True
        self._owned = True

    def fileno(self) -> int:
        return self._fd

    def new_page(self) -> Page:
        return Page(lambda memory: memoryview(memory).cast("I"))

    def request(self, request: Request) -> Callable[..., int]:
        return partial(self._call, self._file.ioctl, request)

    def notify_many(self, ports: Packed) -> tuple[int, int]:
        sent: list[tuple[int, int]] = []

        def notify() -> int:
            sent.append(self._file.notify_many(ports))
            return 0

        result = self._call(notify)
        return sent[0] if sent else (0, -result)

    def reopen(self) -> "FakeDevice":
        return FakeDevice.open(self._description.reopen(), self.name)

    def port_table(self) -> tuple[Port, ...]:
        try:
            with self._lock:
                if self._closed:
                    self._refuse()
                return self._file.port_table()
        except OSError as error:
            if not error.errno:
                raise  # a signal handler's
            raise operation_error("port_table", (), error.errno, self.name) from None

    def turn(self, wake: int, words: memoryview, room: int, left: int, port: int) -> int:
        if port or words[DONE]:
            done = pack_ports(port) if port else words[PORTS : PORTS + words[DONE]].cast("B")
            result = self.unmask(done, len(done))
            words[DONE] = 0
            if result < 0:
                return result
        if not room:
            return 0
        while True:
            result = self._call(self._read_words, words, room)
            if result != -errno.EAGAIN:
                return result
            if not left:
                return 0
            ready, left = _poll(self._fd, wake, left)
            words[:UNREAD].cast("B").cast("q")[0] = left
            if wake in ready:
                return -errno.EAGAIN
            if not ready:
                return 0

    def _read_words(self, words: memoryview, room: int) -> int:
        data = self._file.read(PORT_BYTES * room)
        count = len(data) // PORT_BYTES
        words[PORTS : PORTS + count] = memoryview(data).cast("I")
        words[UNREAD] = count
        return count

    def unmask(self, data: Packed, size: int) -> int:
        done = 0
        while done < size:
            result = self._call(self._file.write, memoryview(data)[done:])
            if result < 0:
                return result
            done += result
        return 0

    def unmask_one(self, port: int) -> int:
        return min(0, self._call(self._file.write, pack_ports(port)))

    def _call(self, call: Callable[..., int], *arguments: Any) -> int:  # noqa: ANN401
        """Make a call of the file; return its result, or the negated errno."""
        try:
            with self._lock:
                if self._closed:
                    self._refuse()
                return call(*arguments)
        except OSError as error:
            if not error.errno:
                raise  # a signal handler's
            return -error.errno

    def read(self, size: int) -> bytes:
        """Take at most ``size`` bytes of pending ports off the ring, as the driver's read does.

        Raises:
            BlockingIOError: the ring is empty and the device does not block.
            RingOverflow: events were dropped since the last RESET.
        """
        while True:
            try:
                with self._lock:
                    if self._closed:
                        self._refuse()
                    return self._file.read(size)
            except OSError as error:
                if error.errno != errno.EAGAIN or not self.blocking:
                    raise operation_error("read", (size,), error.errno or 0, self.name) from None
            _poll(self._fd, -1, -1)

    def write(self, data: Packed) -> int:
        """Unmask the ports in ``data``, as the driver's write does; return the bytes taken."""
        result = self._call(self._file.write, data)
        if result < 0:
            raise operation_error("write", (len(data),), -result, self.name)
        return result

    def close(self) -> None:
        if self._description.inherited:
            # Without the lock, which another thread may have held when the parent forked.
            if self._owned:
                os.dup2(self._dead.number, self._fd, inheritable=False)
            self._description.descriptor.close()
            return
        with self._lock:
            self._closed = True
            if self._owned:
                os.dup2(self._dead.number, self._fd, inheritable=False)
            self._description.release_if_unused()

    def __del__(self, is_finalizing: Callable[[], bool] = sys.is_finalizing) -> None:
        # When the interpreter ends its modules are empty, and its descriptors are closed anyway.
        if self._owned and not (self._closed or is_finalizing()):
            self.close()

    def _refuse(self) -> NoReturn:
        raise ChannelClosed(f"{self.name}: the handle is closed")


def _poll(fd: int, wake: int, left: int) -> tuple[Collection[int], int]:
    """Wait until one of two descriptors is readable.

    Args:
        fd: the first.
        wake: the second; -1 for none.
        left: how long, in nanoseconds; -1 for no limit.

    Returns:
        The readable ones, and the nanoseconds that are left.
    """
    poller = select.poll()
    poller.register(fd, select.POLLIN)
    if wake >= 0:
        poller.register(wake, select.POLLIN)
    if left < 0:
        return dict(poller.poll()), left
    begin = time.monotonic_ns()
    ready = poller.poll(min(left / 1e6, POLL_MOST))
    return dict(ready), max(0, left - (time.monotonic_ns() - begin))


def adopt(fd: int) -> FakeDevice | None:
    """Make a device of a duplicate of a fake's descriptor, or return None if it is not one.

    The two share ring and ports, which are released when the last descriptor with a device is
    closed. The caller closes ``fd``, unless the device's ``own`` is called.

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
    with description.lock:
        return FakeDevice(description, BorrowedDescriptor(fd), f"fd {fd}")


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

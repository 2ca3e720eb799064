"""What a device does for an EventChannel; the real driver and the fake both implement it."""

import os
from collections.abc import Callable, Hashable
from typing import Any, Protocol

from .abi import PORT_BYTES, Packed, Request
from .errors import operation_error
from .ports import Port

DEFAULT_DEVICE = "/dev/xen/evtchn"

PAGE_PORTS = os.sysconf("SC_PAGE_SIZE") // PORT_BYTES
"""The most ports that the driver reads or writes in one call."""

# Indexes of a Page's words; the first two words are a 64-bit time.
UNREAD, DONE, PORTS = 2, 3, 4


class Page:
    """The buffer of one ``turn`` of a device; one call uses it at a time.

    Every step of a turn is recorded here as it is made. So no event is lost if a signal handler
    raises and the caller does not get the result.

    Attributes:
        words: the ports are ``words[PORTS]`` and those after it. ``words[UNREAD]`` of them were
            read and not returned yet; or ``words[DONE]`` of them must be unmasked.
        times: ``times[0]`` is the remaining time in nanoseconds, after a turn that waited and ended
            early, without a port.
        pointer: the page, as the device's ``turn`` takes it.
    """

    __slots__ = ("pointer", "times", "words")

    def __init__(self, pointer: Callable[[bytearray], Any]) -> None:
        # The pointer is to the bytearray, not to a memoryview of it: CPython 3.11 crashes when it
        # collects a cycle that has a memoryview and a cffi pointer to it.
        memory = bytearray(PORT_BYTES * (PORTS + PAGE_PORTS))
        view = memoryview(memory)
        self.words: memoryview = view.cast("I")
        self.times: memoryview = view[: PORT_BYTES * UNREAD].cast("q")
        self.pointer: Any = pointer(memory)


class Device(Protocol):
    """An open file of the driver: its file operations, and the domain's port table from Xen.

    There is no poll method: use select, poll or epoll on ``fileno()``.

    Threads: all calls may run at the same time, ``close`` included. A call after ``close`` fails
    and never reaches another file, because the descriptor's number stays reserved until the device
    is garbage-collected. A caller holds a reference to the device during its call.

    Errors: a call returns a negated errno of the driver, or raises an OSError that says more.

    Attributes:
        name: the device's name in messages: a path, ``fd N``, or ``fake:...``.
        blocking: whether a read waits if no event is pending (opened without O_NONBLOCK).
        port_space: equal for two devices whose ports belong to the same domain.
        turn: ``turn(wake, page.pointer, room, left, port)`` unmasks ``port`` (0 is none) and the
            page's DONE ports, and reads up to ``room`` ports. If there are none, it waits until
            there are some or the descriptor ``wake`` is readable, for at most ``left`` nanoseconds
            (-1: no limit), and reads. It never waits where ``wake`` cannot end the wait. Returns
            how many ports are in the page; 0: the time is over, or ``room`` is 0; -EAGAIN: ``wake``
            is readable, or another reader took the events; -EINTR; -EFBIG: the ring overflowed.
        unmask: ``unmask(data, size)`` unmasks the ports in ``data``, which has ``size`` bytes of
            32-bit words. Returns 0.
        unmask_one: ``unmask_one(port)`` unmasks one port. Returns 0.
        close: ``close()`` releases the file, if the device owns the descriptor. Closing the last
            descriptor of a file unbinds its ports. It may be called again.
    """

    name: str
    blocking: bool
    port_space: Hashable
    turn: Callable[[int, Any, int, int, int], int]
    unmask: Callable[[bytes, int], int]
    unmask_one: Callable[[int], int]
    close: Callable[[], object]

    def own(self) -> None:
        """Take ownership of the descriptor, if the device does not own it yet."""

    def fileno(self) -> int:
        """Return a descriptor that polls as the driver's does."""

    def new_page(self) -> Page:
        """Make a page for ``turn``."""

    def request(self, request: Request) -> Callable[..., int]:
        """Return the function that makes a request; it takes the fields of the request's struct.

        The caller has checked their ranges. The function returns the port, for a request that
        allocates one; otherwise 0.
        """

    def notify_many(self, ports: Packed) -> tuple[int, int]:
        """Make NOTIFY for each port, in order, until one fails.

        Args:
            ports: the ports, as 32-bit words.

        Returns:
            How many were sent, and the errno of the port that failed; 0 if none failed.
        """

    def reopen(self) -> "Device":
        """Open the device again: a new file of the driver, in the same domain.

        Raises:
            OSError: as for an open.
        """

    def port_table(self) -> tuple[Port, ...]:
        """Return the ports of the device's domain, in order of number, as the hypervisor has them.

        Raises:
            OSError: the table is not available; a note says what to do.
        """

    def ioctl(self, request: Request, *arguments: int) -> int:
        """Make a request.

        Args:
            request: the request.
            arguments: the fields of its struct; the caller has checked their ranges.

        Returns:
            The port, for a request that allocates one; otherwise 0.

        Raises:
            OSError: with the driver's errno, from ``errors.operation_error``.
        """
        result = self.request(request)(*arguments)
        if result < 0:
            raise operation_error(request, arguments, -result, self.name)
        return result

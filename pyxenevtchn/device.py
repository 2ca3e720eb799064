"""The seam: what a device does for an EventChannel, on the real driver and on the fake alike."""

import os
from collections.abc import Callable, Hashable
from typing import Any, Protocol

from .abi import PORT_BYTES, Packed, Request
from .errors import operation_error
from .ports import Port

DEFAULT_DEVICE = "/dev/xen/evtchn"

PAGE_PORTS = os.sysconf("SC_PAGE_SIZE") // PORT_BYTES
"""The most ports that the driver reads or writes in one call."""

# The words of a Page, after the 64 bits of the time.
UNREAD, DONE, PORTS = 2, 3, 4


class Page:
    """What one ``turn`` of a device works on; it belongs to one call at a time.

    Every step of a turn is recorded here as it is made. So an exception of a signal handler, which
    can keep a turn's result from its caller, loses no event.

    Attributes:
        words: ``words[UNREAD]`` ports that were read and not given out yet, from ``words[PORTS]``
            on; or ``words[DONE]`` ports there that are to be unmasked.
        times: after a turn that waited, and was ended before its time and without a port,
            ``times[0]`` is how much of the time is left.
        pointer: the page, as the device's ``turn`` takes it.
    """

    __slots__ = ("pointer", "times", "words")

    def __init__(self, pointer: Callable[[bytearray], Any]) -> None:
        # The pointer is of the bytearray itself: CPython 3.11 crashes where it collects a cycle
        # that has a memoryview and cffi's pointer of that.
        memory = bytearray(PORT_BYTES * (PORTS + PAGE_PORTS))
        view = memoryview(memory)
        self.words: memoryview = view.cast("I")
        self.times: memoryview = view[: PORT_BYTES * UNREAD].cast("q")
        self.pointer: Any = pointer(memory)


class Device(Protocol):
    """One open file of the driver: its file operations, and what Xen tells of the domain's ports.

    Poll has no method: it is what select, poll and epoll say of ``fileno()``, for everybody.

    Threads: all calls may be made at once, ``close`` included: one that comes after it fails, and
    never meets another file's descriptor, because the number stays with the device until that is
    garbage. A caller holds a reference to the device for as long as its call lasts.

    Errors: a call returns the driver's errno negated, or raises the OSError itself where it has
    more to say than the errno.

    Attributes:
        name: what the device is called in messages: a path, ``fd N``, or ``fake:...``.
        blocking: whether a read waits when nothing is there (O_NONBLOCK was not set at open).
        port_space: equal for two devices whose ports are those of one domain.
        turn: ``turn(wake, page.pointer, room, left, port)`` unmasks ``port`` (0 is none) and the
            page's DONE ports; reads up to ``room`` ports; where there are none, waits until there
            are some or the descriptor ``wake`` can be read, for ``left`` nanoseconds at most (-1 is
            for ever), and reads. It never waits where ``wake`` cannot end it. Returns how many
            ports are in the page; 0: the time is over, or ``room`` is 0; -EAGAIN: ``wake`` can be
            read, or somebody else took what there was; -EINTR; -EFBIG: the ring has overflowed.
        unmask: ``unmask(data, size)`` unmasks the ports in ``data``, 32-bit words of ``size``
            bytes together. Returns 0.
        unmask_one: ``unmask_one(port)`` unmasks one port. Returns 0.
        close: ``close()`` releases the file, if the descriptor is the device's own: the last
            descriptor of a file takes every port with it. It may be called again.
    """

    name: str
    blocking: bool
    port_space: Hashable
    turn: Callable[[int, Any, int, int, int], int]
    unmask: Callable[[bytes, int], int]
    unmask_one: Callable[[int], int]
    close: Callable[[], object]

    def own(self) -> None:
        """Make the descriptor the device's own, if it is not yet."""

    def fileno(self) -> int:
        """Return a descriptor that polls as the driver's does."""

    def new_page(self) -> Page:
        """Make a page for ``turn``."""

    def request(self, request: Request) -> Callable[..., int]:
        """Return the function that makes a request of its struct's fields, already in range.

        It returns the port, for a request that binds one to a new port; else 0.
        """

    def notify_many(self, ports: Packed) -> tuple[int, int]:
        """Make NOTIFY of each port in turn, of 32-bit words, until one fails.

        Returns:
            How many were sent, and the errno of the next one; 0 where all were.
        """

    def reopen(self) -> "Device":
        """Open the device anew: another file of the driver of the same domain.

        Raises:
            OSError: as for an open.
        """

    def port_table(self) -> tuple[Port, ...]:
        """List the ports of the device's domain, by number, as the hypervisor has them.

        Raises:
            OSError: it cannot be known; a note says what to do.
        """

    def ioctl(self, request: Request, *arguments: int) -> int:
        """Make a request; the arguments are the fields of its struct, already in range.

        Returns:
            The port, for a request that binds one to a new port; else 0.

        Raises:
            OSError: with the driver's errno, from ``errors.operation_error``.
        """
        result = self.request(request)(*arguments)
        if result < 0:
            raise operation_error(request, arguments, -result, self.name)
        return result

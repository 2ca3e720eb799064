"""What comes in on a handle: the driver's ring, and what was read from it but not given out yet."""

import contextlib
import errno
import os
import select
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import TypeVar

from .abi import PORT_BYTES, pack_ports, unpack_ports
from .device import Device
from .handle import Handle

A = TypeVar("A")
R = TypeVar("R")

# The driver gives a page at most.
_PAGE_PORTS = os.sysconf("SC_PAGE_SIZE") // PORT_BYTES

# Far longer than Xen takes to deliver an event that is pending, in seconds.
_DRAIN_TIMEOUT = 1.0


class Inbox:
    """Reads a handle's events, for any number of threads.

    Attributes:
        backlog: ports that were read and not given out, oldest first. Whoever reads gets these
            first, so a loop that is left in the middle of a batch loses none.
    """

    def __init__(self, handle: Handle) -> None:
        self.backlog: deque[int] = deque()
        self._handle = handle
        # One reader at a time where the driver's read would wait: close could not wake it there.
        self._read_lock = threading.RLock()
        # Ports whose next event nobody sent. The count is raised before such a port can exist, so
        # that a reader who sees 0 after its read has read none of their events.
        self._drains = 0
        self._drained_ports: set[int] = set()
        self._drain_lock = threading.RLock()

    def poll(self, timeout: float | None) -> int:
        """Wait until there is something to read (see EventChannel.poll)."""
        with self._handle as device:
            if self.backlog:
                return self._handle.poll(device, 0) or select.POLLIN
            return self._handle.poll(device, timeout)

    def read(self, max_ports: int) -> list[int]:
        """Take what is there; where nothing is, wait or fail as the device does."""
        with self._handle as device:
            ports = self._from_backlog(max_ports)
            if device.blocking and max_ports and not ports:
                return self._fetch(device, None, max_ports)
            while max_ports and not ports:
                ports = self._from_ring(device, max_ports)
            return ports

    def read_into(self, buffer: memoryview) -> int:
        """Take what is there into a buffer, never waiting; return how many ports it is."""
        with self._handle as device:
            ports: Sequence[int] = self._from_backlog(len(buffer) // PORT_BYTES)
            while not ports and buffer:
                size = self._read(device, device.readinto, buffer)
                ports = buffer[:size].cast("I")
                if not self._drains:
                    return len(ports)
                ports = self._without_drained(device, ports.tolist())
            buffer[: PORT_BYTES * len(ports)] = pack_ports(ports)
            return len(ports)

    def wait(self, timeout: float | None) -> list[int]:
        """Wait until something is there and take it; [] when the time is over."""
        with self._handle as device:
            return self._from_backlog(_PAGE_PORTS) or self._fetch(device, timeout, _PAGE_PORTS)

    def fill(self, timeout: float | None) -> bool:
        """Wait for events in the ring and read them into the backlog; False when time is over."""
        with self._handle as device:
            ports = self._fetch(device, timeout, _PAGE_PORTS)
        self.backlog.extend(ports)
        return bool(ports)

    def pop_backlog(self) -> int | None:
        """Take the oldest port of the backlog; None when it is empty."""
        # Empty is what it mostly is; another reader may still take the last one first.
        if self.backlog:
            with contextlib.suppress(IndexError):
                return self.backlog.popleft()
        return None

    def bind_drained(self, bind: Callable[[], int]) -> int:
        """Bind a port that starts with an event pending, and have that one swallowed."""
        with self._drain_lock:
            self._drains += 1
            try:
                port = bind()
            except BaseException:
                self._drains -= 1
                raise
            self._drained_ports.add(port)
        return port

    def wait_drained(self, port: int) -> None:
        """Wait until the event that nobody sent has been swallowed, by whoever reads it."""
        # It is on its way; a fake can withhold it, and then it is swallowed when it comes.
        deadline = time.monotonic() + _DRAIN_TIMEOUT
        with self._handle as device:
            while port in self._drained_ports and time.monotonic() < deadline:
                if self._handle.poll(device, 0.01):
                    with contextlib.suppress(BlockingIOError):  # another reader was faster
                        self.backlog.extend(self._from_ring(device, _PAGE_PORTS))

    def forget(self, *ports: int) -> None:
        """Swallow no event of these ports; they are unbound, or what they had is gone."""
        with self._drain_lock:
            for port in self._drained_ports.intersection(ports):
                self._drained_ports.discard(port)
                self._drains -= 1

    def _fetch(self, device: Device, timeout: float | None, max_ports: int) -> list[int]:
        deadline = time.monotonic() + timeout if timeout else None
        while self._handle.poll(device, timeout):
            try:
                ports = self._from_ring(device, max_ports)
            except BlockingIOError:
                ports = []  # another reader was faster
            if ports:
                return ports
            if deadline is not None:
                timeout = max(0.0, deadline - time.monotonic())
        return []

    def _from_backlog(self, max_ports: int) -> list[int]:
        ports: list[int] = []
        while len(ports) < max_ports and (port := self.pop_backlog()) is not None:
            ports.append(port)
        return ports

    def _from_ring(self, device: Device, max_ports: int) -> list[int]:
        size = PORT_BYTES * min(max_ports, _PAGE_PORTS)
        ports = unpack_ports(self._read(device, device.read, size))
        return self._without_drained(device, ports) if self._drains else ports

    def _read(self, device: Device, read: Callable[[A], R], argument: A) -> R:
        """Have the driver read, but never where it would wait and close could not wake it."""
        if not device.blocking:
            return read(argument)
        with self._read_lock:
            if not self._handle.poll(device, 0):
                raise BlockingIOError(errno.EAGAIN, os.strerror(errno.EAGAIN), device.name)
            return read(argument)

    def _without_drained(self, device: Device, ports: list[int]) -> list[int]:
        with self._drain_lock:
            drained = self._drained_ports.intersection(ports)
            self.forget(*drained)
        for port in drained:
            ports.remove(port)
        if drained:
            # An event that was really sent meanwhile is pending behind the mask, and comes now.
            device.write(pack_ports(drained))
        return ports

"""What comes in on a handle: the driver's ring, and what was read from it but not given out yet."""

import errno
import select
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence

from .abi import PORT_BYTES, pack_ports
from .device import PAGE_PORTS, Device
from .errors import ChannelClosed, operation_error
from .handle import Handle

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
        # Ports whose next event nobody sent. The count is raised before such a port can exist, so
        # that a reader who sees 0 after its read has read none of their events.
        self._drains = 0
        self._drained_ports: set[int] = set()
        self._drain_lock = threading.RLock()

    def poll(self, timeout: float | None) -> int:
        """Wait until there is something to read (see EventChannel.poll)."""
        check_timeout(timeout)
        with self._handle as device:
            if self.backlog:
                return self._handle.poll(device, 0) or select.POLLIN
            return self._handle.poll(device, timeout)

    def read(self, most: int) -> list[int]:
        """Take what is there; where nothing is, wait or fail as the device does."""
        most = min(most, PAGE_PORTS)
        ports: list[int] = []
        try:
            with self._handle as device:
                if most:
                    ports = self.from_backlog(most)
                    ports = ports or self.from_ring(device, None if device.blocking else 0, most)
        except BaseException:
            self.put_back(ports)
            raise
        if most and not ports:
            name = self._handle.device.name
            raise operation_error("read", (most * PORT_BYTES,), errno.EAGAIN, name)
        return ports

    def read_into(self, buffer: memoryview) -> int:
        """Take what is there into a buffer, never waiting; return how many ports it is."""
        with self._handle as device:
            ports: Sequence[int] = self.from_backlog(len(buffer) // PORT_BYTES)
            while not ports and buffer:
                size = device.readinto(buffer)
                ports = buffer[:size].cast("I")
                if not self._drains:
                    return len(ports)
                ports = self._without_drained(device, ports.tolist())
            buffer[: PORT_BYTES * len(ports)] = pack_ports(ports)
            return len(ports)

    def pop_backlog(self) -> int | None:
        """Take the oldest port of the backlog; None when it is empty."""
        # Empty is what it mostly is; another reader may still take the last one first.
        if self.backlog:
            try:
                return self.backlog.popleft()
            except IndexError:
                return None
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
                self.backlog.extend(self.from_ring(device, 0.01, PAGE_PORTS))

    def forget(self, *ports: int) -> None:
        """Swallow no event of these ports; they are unbound, or what they had is gone."""
        with self._drain_lock:
            for port in self._drained_ports.intersection(ports):
                self._drained_ports.discard(port)
                self._drains -= 1

    def from_ring(self, device: Device, timeout: float | None, most: int) -> list[int]:
        """Wait until something is in the ring and take it; [] when the time is over."""
        handle = self._handle
        wake = handle.wake if handle.wake >= 0 else handle.make_wake()
        left = timeout
        if timeout:
            check_timeout(timeout)
            # In a burst something is there at once: not a moment for the clock, which is a system
            # call in a PV domain.
            left = 0
        deadline = None
        while True:
            ports = device.take(most, wake, left, self.backlog)
            if ports:
                if self._drains:
                    ports = self._without_drained(device, ports)
                if ports:
                    return ports
                continue
            if handle.closed:
                raise ChannelClosed(f"{device.name}: the handle was closed while a call waited")
            if timeout:
                now = time.monotonic()
                deadline = deadline or now + timeout
                left = deadline - now
            if left is not None and left <= 0:
                return []

    def from_backlog(self, most: int) -> list[int]:
        """Take from the backlog."""
        ports: list[int] = []
        while len(ports) < most and (port := self.pop_backlog()) is not None:
            ports.append(port)
        return ports

    def put_back(self, ports: list[int]) -> None:
        """Put what was taken, and did not come to whoever took it, in front of the backlog."""
        self.backlog.extendleft(reversed(ports))

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


def check_timeout(timeout: float | None) -> None:
    """Refuse what cannot be waited.

    Raises:
        ValueError: the timeout is negative or not a number.
    """
    if not (timeout is None or timeout >= 0):
        raise ValueError(f"timeout must be None or at least 0 seconds, not {timeout}")

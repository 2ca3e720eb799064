"""Round trips of events: over a loopback pair, or to a port where a pong answers."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol

from ...abi import DOMID_SELF
from ...channel import EventChannel
from ..options import domid_name

# In seconds. A live hypervisor delivers in microseconds to milliseconds: a later event is lost.
ANSWER_TIMEOUT = 2.0


class Trips(Protocol):
    """A route for round trips.

    Attributes:
        name: the device's name.
        route: the ports at both ends.
    """

    name: str
    route: str

    def round_trip(self) -> float | None:
        """Send an event and wait for one back; return the seconds, or None if one was lost."""


class Loopback:
    """Two handles of one device, connected with each other."""

    def __init__(self, near: EventChannel, far: EventChannel) -> None:
        self._near, self._far = near, far
        self._near_port = near.bind_unbound_port(DOMID_SELF)
        self._far_port = _connect(far, DOMID_SELF, self._near_port)
        self.name: str = near.name
        self.route: str = f"port {self._near_port} <-> port {self._far_port}"

    def round_trip(self) -> float | None:
        """Send an event to the other handle and one back."""
        start = time.perf_counter()
        self._near.notify(self._near_port)
        if not self._far.wait(ANSWER_TIMEOUT):
            return None
        self._far.unmask(self._far_port)
        self._far.notify(self._far_port)
        if not self._near.wait(ANSWER_TIMEOUT):
            return None
        self._near.unmask(self._near_port)
        return time.perf_counter() - start


class Remote:
    """A port that is connected to that of another domain or program."""

    def __init__(self, channel: EventChannel, domid: int, remote_port: int) -> None:
        self._channel = channel
        self._port = _connect(channel, domid, remote_port)
        self._late = False
        self.name: str = channel.name
        self.route: str = f"port {self._port} <-> port {remote_port} of domain {domid_name(domid)}"

    def round_trip(self) -> float | None:
        """Send an event there and wait for the answer."""
        if self._late:
            # A late answer must not count as the answer to the next event.
            self._channel.unmask(self._channel.wait(0))
        start = time.perf_counter()
        self._channel.notify(self._port)
        self._late = not self._channel.wait(ANSWER_TIMEOUT)
        elapsed = time.perf_counter() - start
        if self._late:
            return None
        self._channel.unmask(self._port)
        return elapsed


@contextmanager
def open_trips(device: str, address: tuple[int, int] | None) -> Iterator[Trips]:
    """Open a route to a domain's port, or else over a loopback pair."""
    with EventChannel.open(device) as near:
        if address is not None:
            yield Remote(near, *address)
            return
        with EventChannel.open(device) as far:
            yield Loopback(near, far)


def _connect(channel: EventChannel, domid: int, remote_port: int) -> int:
    """Connect a port, and take the event that it starts with: it is no answer."""
    port = channel.bind_interdomain(domid, remote_port)
    channel.unmask(channel.wait(ANSWER_TIMEOUT))
    return port

"""Another domain beside dom0, with a process in it; and such a domain of a fake."""

import warnings
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Literal

from pyxenevtchn import EventChannel
from pyxenevtchn.fake import Hypervisor

from .fake.server.process import ServerProcess
from .guest_agent import use_up
from .limits import TIMEOUT

Event = Literal["pause", "unpause", "checkpoint", "save", "restore", "shutdown", "crash", "destroy"]
"""What happens to a domain, as with xl; "crash" is a crash of its kernel, and xl preserves it."""


class Guest(ABC):
    """A domain beside dom0, with a handle of its own.

    Attributes:
        domid: its number; a restore changes it.
    """

    domid: int

    @abstractmethod
    def call(self, method: str, *arguments: object) -> object:
        """Call a method of its EventChannel.

        "open" replaces the EventChannel by a new one, "use_up" binds all ports that are left.

        Raises:
            OSError: with the errno of the method's error.
        """

    @abstractmethod
    def undergo(self, event: Event) -> None:
        """Make something happen to it."""

    def bind(self, method: str, *arguments: object) -> int:
        """Call a method that binds a port, and return the port."""
        port = self.call(method, *arguments)
        assert isinstance(port, int)
        return port

    def take(self, timeout: float = TIMEOUT) -> list[int]:
        """Wait for events; unmask their ports and return them."""
        ports = self.call("wait", timeout)
        assert isinstance(ports, list)
        self.call("unmask", ports)
        return ports


class FakeGuest(Guest):
    """A domain of a fake.

    Args:
        domid: its number.
        open_channel: opens a handle in the domain with a number.
        undergo: makes something happen to the domain with a number; returns its new number.
    """

    def __init__(
        self,
        domid: int,
        open_channel: Callable[[int], EventChannel],
        undergo: Callable[[int, Event], int],
    ) -> None:
        self.domid = domid
        self._open = open_channel
        self._undergo = undergo
        self._channel = open_channel(domid)

    def call(self, method: str, *arguments: object) -> object:
        if method == "open":
            self.close()
            self._channel = self._open(self.domid)
            return None
        if method == "use_up":
            return use_up(self._channel)
        return getattr(self._channel, method)(*arguments)

    def undergo(self, event: Event) -> None:
        self.domid = self._undergo(self.domid, event)

    def close(self) -> None:
        """Close its handle; a stale one would warn that its descriptor stays open."""
        with warnings.catch_warnings():
            if self._channel.stale:
                warnings.simplefilter("ignore", RuntimeWarning)
            self._channel.close()


def guest_of(xen: Hypervisor) -> FakeGuest:
    """Create a domain of a fake that is in this process."""
    domain = xen.create_domain()

    def undergo(_: int, event: Event) -> int:
        if event == "crash":
            domain.crash(preserve=True)
        else:
            getattr(domain, event)()
        return domain.domid

    return FakeGuest(domain.domid, lambda _: domain.open(), undergo)


def guest_of_server(server: ServerProcess) -> FakeGuest:
    """Create a domain of a fake that a server has."""

    def undergo(domid: int, event: Event) -> int:
        if event == "restore":
            return server.xen.restore_domain(domid)
        if event == "crash":
            server.xen.crash_domain(domid, preserve=True)
        else:
            getattr(server.xen, f"{event}_domain")(domid)
        return domid

    return FakeGuest(
        server.xen.create_domain(), lambda domid: EventChannel.open(server.name(domid)), undergo
    )

"""Ways to leave a loop over events, and a thread that waits for events meanwhile."""

import contextlib
import threading
from collections.abc import Callable

import pytest

from pyxenevtchn import DOMID_SELF, EventChannel

from ..limits import TIMEOUT
from .events import Pair

Leave = Callable[[EventChannel], int]
Wait = Callable[[EventChannel], list[int]]


def by_break(channel: EventChannel) -> int:
    for port in channel.events(TIMEOUT):  # noqa: B007 - it is what is returned
        break
    return port


def by_exception(channel: EventChannel) -> int:
    with contextlib.suppress(LookupError):
        for port in channel.events(TIMEOUT):
            raise LookupError(port)
    return port


def by_closing(channel: EventChannel) -> int:
    loop = channel.events(TIMEOUT)
    port = next(loop)
    loop.close()
    return port


def by_dropping(channel: EventChannel) -> int:
    loop = channel.events(TIMEOUT)
    port = next(loop)
    del loop
    return port


def after_an_unbind(channel: EventChannel) -> int:
    spare = channel.bind_unbound_port(DOMID_SELF)
    for port in channel.events(TIMEOUT):  # noqa: B007 - it is what is returned
        channel.unbind(spare)
        break
    return port


in_each_way = pytest.mark.parametrize(
    "leave", [by_break, by_exception, by_closing, by_dropping, after_an_unbind]
)


def wait(channel: EventChannel) -> list[int]:
    ports = channel.wait(TIMEOUT)
    assert ports
    return ports


class Sleeper:
    """A thread that waits for events, and sends an event to ``last`` when its wait has ended.

    Attributes:
        ports: the events that it got.
        error: the exception that ended it, if any.
    """

    def __init__(self, channel: EventChannel, waits: Wait, last: Pair) -> None:
        self.ports: list[int] = []
        self.error: BaseException | None = None
        self._call = waits, channel, last
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self) -> None:
        waits, channel, last = self._call
        try:
            self.ports = waits(channel)
        except BaseException as error:  # noqa: BLE001 - reported by join
            self.error = error
        last.near.notify(last.near_port)

    def join(self) -> None:
        self._thread.join(2 * TIMEOUT)
        assert not self._thread.is_alive()
        assert self.error is None

"""Signal handlers, threads and duplicates that use a handle in the middle of another's call."""

import os
import signal
from contextlib import suppress

import pytest

from pyxenevtchn import DOMID_SELF, ChannelClosed, EventChannel

from ..concurrency import threads
from ..descriptors import descriptors
from ..limits import TIMEOUT
from .conftest import OpenChannel, OpenDevice
from .events import Pair


def test_a_loop_that_was_left_waits_for_nobody(pairs: list[Pair]) -> None:
    near, far = pairs[0].near, pairs[0].far
    came: list[int] = []

    def look(_number: int, _frame: object) -> None:
        for port in far.events(0):
            came.append(port)
            break
        far.poll(0)

    near.notify_many([pair.near_port for pair in pairs])
    before = signal.signal(signal.SIGUSR1, look)
    try:
        for port in far.events(TIMEOUT):
            came.append(port)
            os.kill(os.getpid(), signal.SIGUSR1)
            if len(came) >= len(pairs):
                break
    finally:
        signal.signal(signal.SIGUSR1, before)
    assert sorted(came) == [pair.far_port for pair in pairs]


def test_an_event_of_a_number_that_a_duplicate_has_bound_again_is_not_dropped(
    channel: EventChannel, open_channel: OpenChannel
) -> None:
    port = channel.bind_unbound_port(DOMID_SELF)
    with EventChannel.from_fd(os.dup(channel.fileno()), bindings=channel.bindings) as twin:
        twin.unbind(port)
        assert channel.bind_unbound_port(DOMID_SELF) == port
        peer = open_channel()
        peer.notify(peer.bind_interdomain(DOMID_SELF, port))
        assert next(twin.events(TIMEOUT)) == port


def test_blocking_handles_of_one_file_end_their_waits(open_device: OpenDevice) -> None:
    """Between the poll and the read of one, the other takes the event."""
    one = EventChannel(open_device(nonblocking=False))
    other = EventChannel.from_fd(os.dup(one.fileno()))
    port = one.bind_unbound_port(DOMID_SELF)
    far = one.bind_interdomain(DOMID_SELF, port)

    def read(channel: EventChannel) -> None:
        with suppress(ChannelClosed):
            while True:
                channel.unmask(channel.wait(0.01))

    with threads(lambda: read(one), lambda: read(other)):
        for _ in range(100):
            one.notify(far)
            one.notify(port)
        one.close()
        other.close()


@pytest.mark.backends("fake", "real")
def test_an_open_handle_has_two_descriptors_and_a_closed_one_none(
    backend: str, device: str
) -> None:
    before = descriptors()
    channel = EventChannel.open(device)
    # A fake has both ends of a socket besides.
    assert len(descriptors() - before) == (2 if backend == "real" else 4)
    channel.close()
    assert descriptors() == before

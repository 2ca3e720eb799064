"""Signal handlers, threads and duplicates that use a handle in the middle of another's call."""

import os
import signal
import subprocess
import sys
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


PATCHED = """
import select, socket, sys

# As gevent and eventlet do.
del select.epoll, select.poll
socket.socket = socket.socketpair = select.select = None

from pyxenevtchn import DOMID_SELF, EventChannel

with EventChannel.open(sys.argv[1]) as channel:
    near = channel.bind_unbound_port(DOMID_SELF)
    far = channel.bind_interdomain(DOMID_SELF, near)
    assert channel.wait(30) == [far]
    assert channel.wait(0.01) == []
    channel.notify(far)
    assert channel.poll(30)
    assert next(channel.events(30)) == near
"""

LEFT_OPEN = """
import gc, sys
from pyxenevtchn import EventChannel

class Ring:
    def __init__(self):
        self.itself, self.channel = self, EventChannel.open(sys.argv[1])

gc.disable()
ring, channel = Ring(), EventChannel.open(sys.argv[1])
channel.bind_unbound_port(0)
loop = channel.events(0)
"""


def run_program(program: str, device: str) -> str:
    """Run a program to its successful end; return its standard error."""
    command = [sys.executable, "-W", "default", "-c", program, device]
    return subprocess.run(
        command, check=True, stderr=subprocess.PIPE, text=True, timeout=TIMEOUT
    ).stderr


def test_nothing_needs_what_others_replace(device: str) -> None:
    assert run_program(PATCHED, device) == ""


def test_the_end_of_python_says_no_more_than_what_is_open(device: str) -> None:
    lines = run_program(LEFT_OPEN, device).splitlines()
    assert all("ResourceWarning: " in line or line == "  warnings.warn(" for line in lines), lines

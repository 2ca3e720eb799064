"""What several tests of the fake need."""

import errno
import fcntl
import os
import resource
from collections.abc import Callable

import pytest

from pyxenevtchn import EventChannel

from ..descriptors import descriptors


def refused(number: int) -> "pytest.RaisesExc[OSError]":
    """Expect an OSError with this errno."""
    return pytest.RaisesExc(OSError, check=lambda error: error.errno == number)


def connect(
    near: EventChannel, near_domid: int, far: EventChannel, far_domid: int
) -> tuple[int, int]:
    """Connect two handles in these domains; return the port of each."""
    near_port = near.bind_unbound_port(far_domid)
    return near_port, far.bind_interdomain(near_domid, near_port)


def open_without_descriptors(open_device: Callable[[], object]) -> None:
    """Open a device with too few descriptors left, and check that none stays open."""
    before = descriptors()
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    lowest_free = fcntl.fcntl(0, fcntl.F_DUPFD, 0)
    os.close(lowest_free)
    # A device takes three, and all lower numbers are in use.
    for room in range(3):
        resource.setrlimit(resource.RLIMIT_NOFILE, (lowest_free + room, limits[1]))
        try:
            with refused(errno.EMFILE):
                open_device()
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, limits)
        assert descriptors() == before

"""Which tests run on which machine, and with which guests."""

import platform
from collections.abc import Sequence

import pytest

from .here import has_fifo, has_lsevtchn, is_dom0

# The static channels of tools/xenvm --static: both ends of one that is within dom0; dom0's end of
# one to a guest that answers each event; dom0's end of one to a guest that sends an event a second.
NEAR, FAR, TO_ECHO, TO_TICK = 10, 11, 12, 13

MARKER = "only(what): a test that needs what not every domain has: dom0, fifo, lsevtchn, static"

_REAL_HAS = {"dom0": is_dom0, "fifo": has_fifo, "lsevtchn": has_lsevtchn}


def add_options(parser: pytest.Parser) -> None:
    """Add the options that describe the machine."""
    parser.addoption(
        "--guests",
        # Xen for Arm has no PV guests.
        default="pvh-1" if platform.machine() == "aarch64" else "pv-1",
        metavar="TYPE-VCPUS,...",
        help="the guests beside a real dom0, such as pv-1,pvh-2",
    )
    parser.addoption(
        "--static",
        action="store_true",
        help="the real device has the static channels of tools/xenvm --static",
    )


def has(config: pytest.Config, item: pytest.Item) -> bool:
    """Return whether this machine has what a test's ``only`` marker names."""
    marker = item.get_closest_marker("only")
    if marker is None:
        return True
    if marker.args == ("static",):
        # Never guess: on another machine these ports may be the kernel's.
        return bool(config.getoption("--static"))
    return config.getoption("--device") != "real" or _REAL_HAS[marker.args[0]]()


def parametrize_guests(metafunc: pytest.Metafunc, backends: Sequence[str]) -> None:
    """Run a test with each kind of real guest, and once on each other device."""
    guests: list[str] = metafunc.config.getoption("--guests").split(",")
    cases = [
        pytest.param(backend, guest, id=f"{backend}-{guest}" if guest else backend)
        for backend in backends
        for guest in (guests if backend == "real" else [None])
    ]
    # With the module's scope, all tests with one guest run before those with the next.
    metafunc.parametrize(("backend", "shared_guest"), cases, indirect=True, scope="module")

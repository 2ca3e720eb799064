"""What some machines alone have: the tests of that, and the guests of the tests with a guest."""

from collections.abc import Sequence

import pytest

from .here import has_fifo, has_lsevtchn, is_dom0

# The static channels of tools/xenvm --static: the two ends of one in dom0; and dom0's ends of those
# whose other ends are in a guest that echoes, and that sends an event in each second.
NEAR, FAR, TO_ECHO, TO_TICK = 10, 11, 12, 13

MARKER = "only(what): a test of what not every domain is or has: dom0, fifo, lsevtchn, static"

_REAL_HAS = {"dom0": is_dom0, "fifo": has_fifo, "lsevtchn": has_lsevtchn}


def add_options(parser: pytest.Parser) -> None:
    """Add the options that say what the machine has."""
    parser.addoption(
        "--guests",
        default="pv-1",
        metavar="TYPE-VCPUS,...",
        help="the guests beside a real dom0, such as pv-1,pvh-2",
    )
    parser.addoption(
        "--static",
        action="store_true",
        help="the real device has the static channels of tools/xenvm --static",
    )


def has(config: pytest.Config, item: pytest.Item) -> bool:
    """Tell whether this machine has what a test is of."""
    marker = item.get_closest_marker("only")
    if marker is None:
        return True
    if marker.args == ("static",):
        # Where the option is wrong, their ports are the kernel's: no guess, then.
        return bool(config.getoption("--static"))
    return config.getoption("--device") != "real" or _REAL_HAS[marker.args[0]]()


def parametrize_guests(metafunc: pytest.Metafunc, backends: Sequence[str]) -> None:
    """Have a test run with each kind of real guest, and once on each other device."""
    guests: list[str] = metafunc.config.getoption("--guests").split(",")
    cases = [
        pytest.param(backend, guest, id=f"{backend}-{guest}" if guest else backend)
        for backend in backends
        for guest in (guests if backend == "real" else [None])
    ]
    # Of the module's scope, so that all tests with one guest come before those with the next.
    metafunc.parametrize(("backend", "shared_guest"), cases, indirect=True, scope="module")

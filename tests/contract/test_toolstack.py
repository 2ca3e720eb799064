"""A VIRQ that the real hypervisor raises, on demand of the real toolstack."""

import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

import pytest

from pyxenevtchn import EventChannel, Virq

from .events import TIMEOUT, expect

pytestmark = pytest.mark.backends("real")


@pytest.fixture
def make_xen_print(unavailable: Callable[[str], NoReturn]) -> Callable[[], None]:
    """Have Xen print to its console ring."""
    # Not the xl of the path: on Debian that is a wrapper, which insists on tools of the running
    # hypervisor's version. Any version's can press a debug key.
    programs = sorted(Path("/usr/lib").glob("xen-*/bin/xl"))
    if not programs:
        unavailable("xl is not installed: it is in Debian's xen-utils-4.17")

    def debug_key() -> None:
        subprocess.run([programs[-1], "debug-keys", "h"], check=True, timeout=60)

    return debug_key


def test_the_console_ring_raises_its_virq(
    channel: EventChannel, make_xen_print: Callable[[], None]
) -> None:
    port = channel.bind_virq(Virq.CON_RING)
    make_xen_print()
    expect(channel, port)
    channel.unmask(port)
    make_xen_print()
    assert channel.wait(TIMEOUT) == [port]

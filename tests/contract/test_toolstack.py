"""A VIRQ that the real hypervisor raises, on demand of the real toolstack."""

import shutil
import subprocess
from collections.abc import Callable
from typing import NoReturn

import pytest

from pyxenevtchn import EventChannel, Virq

from .events import TIMEOUT, expect

pytestmark = pytest.mark.backends("real")


@pytest.fixture
def make_xen_print(unavailable: Callable[[str], NoReturn]) -> Callable[[], None]:
    """Have Xen print to its console ring."""
    if not shutil.which("xl"):
        unavailable("xl is not installed: it is in Debian's xen-utils-4.17")

    def debug_key() -> None:
        subprocess.run(["xl", "debug-keys", "h"], check=True, timeout=60)

    return debug_key


def test_the_console_ring_raises_its_virq(
    channel: EventChannel, make_xen_print: Callable[[], None]
) -> None:
    port = channel.bind_virq(Virq.CON_RING)
    assert channel.wait(0) == []
    make_xen_print()
    expect(channel, port)
    channel.unmask(port)
    make_xen_print()
    assert channel.wait(TIMEOUT) == [port]

"""VIRQs that a real Xen raises when the toolstack acts."""

from collections.abc import Callable
from typing import NoReturn

import pytest

from pyxenevtchn import EventChannel, Virq

from ..limits import TIMEOUT
from ..toolstack import let_a_domain_die, press_debug_key
from .events import expect

pytestmark = [pytest.mark.backends("real"), pytest.mark.only("dom0")]


def test_the_console_ring_raises_its_virq(
    channel: EventChannel, unavailable: Callable[[str], NoReturn]
) -> None:
    port = channel.bind_virq(Virq.CON_RING)
    press_debug_key(unavailable)
    expect(channel, port)
    channel.unmask(port)
    press_debug_key(unavailable)
    assert channel.wait(TIMEOUT) == [port]


def test_the_death_of_a_domain_raises_its_virq(channel: EventChannel) -> None:
    port = channel.bind_virq(Virq.DOM_EXC)
    let_a_domain_die()
    expect(channel, port)

"""Static event channels, which Xen connects at boot: what BIND_STATIC is for.

They are those of ``tools/xenvm --arch arm64 --static``.
"""

import errno

import pytest

from pyxenevtchn import EventChannel, Request

from ..limits import TIMEOUT
from ..machines import FAR, NEAR, TO_ECHO, TO_TICK
from .conftest import OpenChannel
from .events import Pair, expect, expect_nothing

pytestmark = [pytest.mark.backends("real"), pytest.mark.only("static")]

ROUNDS = 10


@pytest.fixture
def static_pair(open_channel: OpenChannel) -> Pair:
    near, far = open_channel(), open_channel()
    near.bind_static(NEAR)
    far.bind_static(FAR)
    return Pair(near, NEAR, far, FAR)


def there_and_back(pair: Pair) -> None:
    for _ in range(ROUNDS):
        pair.near.notify(NEAR)
        expect(pair.far, FAR)
        pair.far.unmask(FAR)
        pair.far.notify(FAR)
        expect(pair.near, NEAR)
        pair.near.unmask(NEAR)


def test_events_go_both_ways(static_pair: Pair) -> None:
    there_and_back(static_pair)


def test_both_ends_on_one_handle(channel: EventChannel) -> None:
    for port in (NEAR, FAR):
        channel.bind_static(port)
    there_and_back(Pair(channel, NEAR, channel, FAR))
    assert [binding.request for binding in channel.bindings.values()] == [Request.BIND_STATIC] * 2


def test_an_end_starts_with_nothing_pending(static_pair: Pair, fence: Pair) -> None:
    expect_nothing(fence, static_pair.near, static_pair.far)


def test_an_end_that_was_unbound_is_bound_again(static_pair: Pair) -> None:
    there_and_back(static_pair)
    static_pair.far.unbind(FAR)
    assert not static_pair.far.bindings
    static_pair.far.bind_static(FAR)
    there_and_back(static_pair)


def test_the_channel_outlives_the_handles(static_pair: Pair, open_channel: OpenChannel) -> None:
    static_pair.near.close()
    static_pair.far.close()
    again = Pair(open_channel(), NEAR, open_channel(), FAR)
    again.near.bind_static(NEAR)
    again.far.bind_static(FAR)
    there_and_back(again)


def test_an_end_is_bound_once(static_pair: Pair, open_channel: OpenChannel) -> None:
    with pytest.raises(OSError, match=f"bind_static.port={NEAR}.") as caught:
        static_pair.near.bind_static(NEAR)
    assert caught.value.errno == errno.EISCONN
    for handle in (static_pair.near, open_channel()):
        with pytest.raises(OSError, match="another handle of this process") as caught:
            handle.bind_static(FAR)
        assert caught.value.errno == errno.EBUSY
    there_and_back(static_pair)


def test_no_other_port_connects_to_an_end(static_pair: Pair, channel: EventChannel) -> None:
    for port in (NEAR, FAR):
        with pytest.raises(OSError, match="Invalid argument"):
            channel.bind_interdomain(0, port)
    there_and_back(static_pair)


def test_another_domain_answers(channel: EventChannel) -> None:
    for _ in range(2):
        channel.bind_static(TO_ECHO)
        for _ in range(ROUNDS):
            channel.notify(TO_ECHO)
            # A new port may have an event that nobody sent, and be one ahead from then on.
            assert {TO_ECHO} == set(channel.wait(TIMEOUT))
            channel.unmask(TO_ECHO)
        channel.unbind(TO_ECHO)


def test_another_domain_sends(channel: EventChannel) -> None:
    channel.bind_static(TO_TICK)
    for _ in range(2):
        expect(channel, TO_TICK)
        channel.unmask(TO_TICK)

"""Events: sent, merged, masked, unmasked."""

import errno

import pytest

from pyxenevtchn import DOMID_SELF, Device, EventChannel, Request, Virq

from ..limits import TIMEOUT
from .conftest import OpenChannel, OpenDevice
from .events import Pair, connect, expect, expect_nothing


def test_events_go_both_ways(pair: Pair) -> None:
    for _ in range(3):
        pair.near.notify(pair.near_port)
        expect(pair.far, pair.far_port)
        pair.far.unmask(pair.far_port)
        pair.far.notify(pair.far_port)
        expect(pair.near, pair.near_port)
        pair.near.unmask(pair.near_port)


def test_the_sender_hears_nothing(pair: Pair, fence: Pair) -> None:
    pair.near.notify(pair.near_port)
    expect(pair.far, pair.far_port)
    expect_nothing(fence, pair.near)


def test_events_of_a_masked_port_become_one_that_comes_with_unmask(pair: Pair, fence: Pair) -> None:
    pair.near.notify(pair.near_port)
    expect(pair.far, pair.far_port)
    for _ in range(5):
        pair.near.notify(pair.near_port)
    expect_nothing(fence, pair.far)
    pair.far.unmask(pair.far_port)
    expect(pair.far, pair.far_port)
    pair.far.unmask(pair.far_port)
    expect_nothing(fence, pair.far)


def test_unmask_without_an_event_brings_none(pair: Pair, fence: Pair) -> None:
    pair.far.unmask(pair.far_port)
    pair.near.notify(pair.near_port)
    expect(pair.far, pair.far_port)
    pair.far.unmask([pair.far_port, pair.far_port])
    expect_nothing(fence, pair.far)


@pytest.mark.only("fifo")
def test_ports_come_in_the_order_of_their_notifications(channel: EventChannel) -> None:
    pairs = [connect(channel, channel) for _ in range(4)]
    for pair in (pairs[2], pairs[0], pairs[3], pairs[1]):
        channel.notify(pair.near_port)
    expect(channel, *(pairs[i].far_port for i in (2, 0, 3, 1)))


def test_unmask_before_read_puts_the_port_in_the_ring_again(pair: Pair) -> None:
    pair.near.notify(pair.near_port)
    assert pair.far.poll(TIMEOUT)
    pair.far.unmask(pair.far_port)
    pair.near.notify(pair.near_port)
    expect(pair.far, pair.far_port, pair.far_port)


def test_a_handle_notifies_only_its_own_ports(pair: Pair) -> None:
    free = pair.near.bind_unbound_port(DOMID_SELF)
    pair.near.unbind(free)
    for port in (0, free, pair.far_port, 131072, 2**32 - 1):
        with pytest.raises(OSError, match=f"notify.port={port}.") as caught:
            pair.near.notify(port)
        assert caught.value.errno == errno.ENOTCONN


def test_an_event_to_nobody_is_dropped(channel: EventChannel, fence: Pair) -> None:
    port = channel.bind_unbound_port(DOMID_SELF)
    channel.notify(port)
    binder = channel.bind_interdomain(DOMID_SELF, port)
    expect(channel, binder)
    expect_nothing(fence, channel)


def test_notify_on_a_virq_port_is_refused(channel: EventChannel) -> None:
    port = channel.bind_virq(Virq.ARGO)
    with pytest.raises(ValueError, match=f"port {port} is bound to VIRQ ARGO"):
        channel.notify(port)


def test_the_driver_itself_accepts_notify_on_a_virq_port(open_device: OpenDevice) -> None:
    device: Device = open_device()
    try:
        port = device.ioctl(Request.BIND_VIRQ, Virq.ARGO)
        assert device.ioctl(Request.NOTIFY, port) == 0
    finally:
        device.close()


def test_unmask_skips_ports_that_the_handle_does_not_have(pair: Pair) -> None:
    pair.near.notify(pair.near_port)
    expect(pair.far, pair.far_port)
    pair.near.notify(pair.near_port)
    assert pair.far.unmask([0, pair.near_port, 2**32 - 1, pair.far_port]) == 4
    expect(pair.far, pair.far_port)


def test_unmask_takes_any_number_of_ports(pair: Pair) -> None:
    pair.near.notify(pair.near_port)
    expect(pair.far, pair.far_port)
    pair.near.notify(pair.near_port)
    # The driver takes a page at a time: the masked port is in the third.
    assert pair.far.unmask([1] * 2500 + [pair.far_port]) == 2501
    expect(pair.far, pair.far_port)
    assert pair.far.unmask([]) == 0
    assert pair.far.unmask(range(1, 4)) == 3
    assert pair.far.unmask(port for port in (1, 2)) == 2


def test_a_bad_port_among_good_ones_unmasks_none(pair: Pair, fence: Pair) -> None:
    pair.near.notify(pair.near_port)
    expect(pair.far, pair.far_port)
    pair.near.notify(pair.near_port)
    with pytest.raises(ValueError, match="port must be"):
        pair.far.unmask([pair.far_port, -1])
    with pytest.raises(TypeError):
        pair.far.unmask([pair.far_port, "1"])  # type: ignore[list-item]
    expect_nothing(fence, pair.far)


def test_two_pairs_do_not_mix(open_channel: OpenChannel, fence: Pair) -> None:
    one = connect(open_channel(), open_channel())
    two = connect(open_channel(), open_channel())
    two.near.notify(two.near_port)
    expect(two.far, two.far_port)
    expect_nothing(fence, one.near, one.far, two.near)

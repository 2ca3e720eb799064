"""Binding and unbinding: the ports that are bound, and the errnos."""

import errno

import pytest

from pyxenevtchn import (
    DOMID_FIRST_RESERVED,
    DOMID_IO,
    DOMID_SELF,
    Binding,
    EventChannel,
    Request,
    Virq,
)

from ..here import Here
from .conftest import OpenChannel
from .events import Pair, connect, expect, expect_nothing

NO_SUCH_DOMAIN = 999
# No kernel has more channels.
TOO_HIGH = 131072


def test_a_virq_binds_to_a_port_of_its_own(channel: EventChannel) -> None:
    profiler = channel.bind_virq(Virq.XENOPROF)
    argo = channel.bind_virq(Virq.ARGO)
    assert 0 < profiler != argo > 0


def test_the_kernel_holds_some_virqs(channel: EventChannel, here: Here) -> None:
    for virq in here.held:
        with pytest.raises(FileExistsError, match=virq.name):
            channel.bind_virq(virq)


def test_every_other_virq_binds(channel: EventChannel, here: Here) -> None:
    free = set(range(24)) - here.held
    assert len({channel.bind_virq(virq) for virq in free}) == len(free)


@pytest.mark.parametrize("virq", [24, 25, 2**31, 2**32 - 1])
def test_higher_virqs_do_not_exist(channel: EventChannel, virq: int) -> None:
    with pytest.raises(OSError, match=f"bind_virq.virq={virq}") as caught:
        channel.bind_virq(virq)
    assert caught.value.errno == errno.EINVAL
    assert not channel.bindings


def test_a_virq_is_bound_once_in_the_domain(
    channel: EventChannel, open_channel: OpenChannel
) -> None:
    channel.bind_virq(Virq.ARGO)
    for handle in (channel, open_channel()):
        with pytest.raises(FileExistsError):
            handle.bind_virq(Virq.ARGO)


def test_unbinding_frees_a_virq(channel: EventChannel, open_channel: OpenChannel) -> None:
    channel.unbind(channel.bind_virq(Virq.ARGO))
    assert open_channel().bind_virq(Virq.ARGO)


def test_closing_frees_a_virq(channel: EventChannel, open_channel: OpenChannel) -> None:
    channel.bind_virq(Virq.ARGO)
    channel.close()
    assert open_channel().bind_virq(Virq.ARGO)


def test_the_lowest_free_port_is_the_next_one(channel: EventChannel) -> None:
    ports = [channel.bind_unbound_port(DOMID_SELF) for _ in range(4)]
    assert ports == sorted(ports)
    channel.unbind(ports[2])
    channel.unbind(ports[1])
    assert channel.bind_unbound_port(DOMID_SELF) == ports[1]
    assert channel.bind_unbound_port(DOMID_SELF) == ports[2]


def test_no_port_has_the_number_0_or_one_of_the_kernel(channel: EventChannel) -> None:
    # The kernel of any domain has bound its timer and its console before a process runs.
    assert channel.bind_unbound_port(DOMID_SELF) > 2


@pytest.mark.parametrize("domid", [NO_SUCH_DOMAIN, DOMID_IO, 0xFFFF])
def test_allocating_a_port_for_a_domain_that_does_not_exist(
    channel: EventChannel, domid: int, here: Here
) -> None:
    if here.silo:
        with pytest.raises(ProcessLookupError, match="XSM SILO"):
            channel.bind_unbound_port(domid)
        return
    reserved = channel.bind_unbound_port(domid)
    with pytest.raises(OSError, match="Invalid argument") as caught:
        channel.bind_interdomain(DOMID_SELF, reserved)
    assert caught.value.errno == errno.EINVAL


def test_a_domain_connects_to_itself_by_either_domid(pair: Pair, here: Here) -> None:
    for domid in (here.domid, DOMID_SELF):
        port = pair.near.bind_unbound_port(domid)
        assert pair.far.bind_interdomain(domid, port) not in {port, pair.far_port, 0}


@pytest.mark.parametrize("domid", [NO_SUCH_DOMAIN, DOMID_IO, DOMID_FIRST_RESERVED - 1, 0xFFFF])
def test_connecting_to_no_domain(channel: EventChannel, domid: int) -> None:
    with pytest.raises(ProcessLookupError, match=f"remote_domain={domid}, remote_port=1"):
        channel.bind_interdomain(domid, 1)


def test_a_domain_exists_or_does_not(channel: EventChannel) -> None:
    assert channel.domain_exists(DOMID_SELF)
    assert not channel.domain_exists(NO_SUCH_DOMAIN)
    assert not channel.bindings


@pytest.mark.parametrize("port", [0, TOO_HIGH, 2**32 - 1])
def test_connecting_to_no_port(channel: EventChannel, port: int) -> None:
    with pytest.raises(OSError, match=f"remote_port={port}") as caught:
        channel.bind_interdomain(DOMID_SELF, port)
    assert caught.value.errno == errno.EINVAL


def test_connecting_to_a_port_that_is_not_unbound(pair: Pair) -> None:
    virq = pair.near.bind_virq(Virq.ARGO)
    free = pair.near.bind_unbound_port(DOMID_SELF)
    pair.near.unbind(free)
    for port in (virq, free, pair.near_port, pair.far_port):
        with pytest.raises(OSError, match="Invalid argument") as caught:
            pair.far.bind_interdomain(DOMID_SELF, port)
        assert caught.value.errno == errno.EINVAL


def test_a_failed_bind_takes_no_port(channel: EventChannel) -> None:
    port = channel.bind_unbound_port(DOMID_SELF)
    channel.unbind(port)
    with pytest.raises(OSError, match="bind_interdomain"):
        channel.bind_interdomain(DOMID_SELF, port)
    assert channel.bind_unbound_port(DOMID_SELF) == port


def test_the_port_that_connects_starts_with_one_event_pending(
    open_channel: OpenChannel, fence: Pair
) -> None:
    near, far = open_channel(), open_channel()
    near_port = near.bind_unbound_port(DOMID_SELF)
    far_port = far.bind_interdomain(DOMID_SELF, near_port)
    expect(far, far_port)
    far.unmask(far_port)
    expect_nothing(fence, near, far)


def test_unbinding_a_port_that_the_handle_does_not_have(pair: Pair) -> None:
    gone = pair.far.bind_unbound_port(DOMID_SELF)
    pair.far.unbind(gone)
    for port in (0, 1, gone, pair.near_port):
        with pytest.raises(OSError, match=f"unbind.port={port}.") as caught:
            pair.far.unbind(port)
        assert caught.value.errno == errno.ENOTCONN


@pytest.mark.parametrize("port", [TOO_HIGH, 2**32 - 1])
def test_unbinding_a_port_out_of_range(channel: EventChannel, port: int) -> None:
    with pytest.raises(OSError, match="unbind") as caught:
        channel.unbind(port)
    assert caught.value.errno == errno.EINVAL


def test_a_kernel_never_forgets_how_high_a_port_it_has_seen(
    channel: EventChannel, open_channel: OpenChannel
) -> None:
    """Its array of channels grows by pages of 1024; only a port above it gives EINVAL."""
    with open_channel() as crowd:
        highest = max(crowd.bind_unbound_port(DOMID_SELF) for _ in range(1030))
    assert highest > 1024
    with pytest.raises(OSError, match="unbind") as caught:
        channel.unbind(highest)
    assert caught.value.errno == errno.ENOTCONN


def test_a_handle_knows_hundreds_of_bindings(channel: EventChannel) -> None:
    expected = {}
    for _ in range(100):
        near = channel.bind_unbound_port(DOMID_SELF)
        far = channel.bind_interdomain(DOMID_SELF, near)
        expected[near] = Binding(Request.BIND_UNBOUND_PORT, None, DOMID_SELF)
        expected[far] = Binding(Request.BIND_INTERDOMAIN, None, DOMID_SELF, near)
    assert dict(channel.bindings) == dict(channel.bindings.items()) == expected
    assert list(channel.bindings) == sorted(expected)
    assert len(channel.bindings) == 200


def test_a_handle_knows_its_bindings(channel: EventChannel) -> None:
    unbound = channel.bind_unbound_port(DOMID_SELF)
    connected = channel.bind_interdomain(DOMID_SELF, unbound)
    virq = channel.bind_virq(Virq.ARGO)
    assert list(channel.bindings) == [unbound, connected, virq]
    assert channel.bindings[unbound].request is Request.BIND_UNBOUND_PORT
    assert channel.bindings[unbound].remote_domain == DOMID_SELF
    assert channel.bindings[connected].request is Request.BIND_INTERDOMAIN
    assert channel.bindings[connected].remote_port == unbound
    assert channel.bindings[virq].virq == Virq.ARGO
    channel.unbind(connected)
    assert list(channel.bindings) == [unbound, virq]


def test_a_peer_that_goes_away_leaves_the_port_unbound_and_reserved(
    pair: Pair, fence: Pair
) -> None:
    pair.far.close()
    pair.near.notify(pair.near_port)  # dropped
    expect_nothing(fence, pair.near)
    with pytest.raises(OSError, match="bind_interdomain"):
        fence.near.bind_interdomain(DOMID_SELF, pair.far_port)
    again = fence.near.bind_interdomain(DOMID_SELF, pair.near_port)
    expect(fence.near, again)
    fence.near.notify(again)
    expect(pair.near, pair.near_port)


def test_hundreds_of_pairs_on_one_handle(channel: EventChannel) -> None:
    pairs = [connect(channel, channel) for _ in range(150)]
    for pair in pairs:
        channel.notify(pair.near_port)
        expect(channel, pair.far_port)
    assert len(channel.bindings) == 300

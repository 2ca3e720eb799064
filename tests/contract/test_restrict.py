"""RESTRICT_DOMID: limits a handle to connections to one domain, permanently."""

import errno
from collections.abc import Callable

import pytest

from pyxenevtchn import DOMID_FIRST_RESERVED, DOMID_SELF, EventChannel, Virq

from .conftest import OpenChannel
from .events import connect, expect

NO_SUCH_DOMAIN = 999


@pytest.mark.parametrize("domid", [0, DOMID_FIRST_RESERVED, DOMID_SELF, 0xFFFF])
def test_some_domids_are_refused(channel: EventChannel, domid: int) -> None:
    with pytest.raises(OSError, match=f"restrict_domid.domid={domid}.") as caught:
        channel.restrict_domid(domid)
    assert caught.value.errno == errno.EINVAL
    assert channel.bind_virq(Virq.ARGO)


def test_a_handle_is_restricted_once(channel: EventChannel) -> None:
    channel.restrict_domid(NO_SUCH_DOMAIN)
    for domid in (NO_SUCH_DOMAIN, 1, 0):
        with pytest.raises(PermissionError, match="restrict_domid"):
            channel.restrict_domid(domid)


def test_what_a_restricted_handle_may_not_do(channel: EventChannel) -> None:
    channel.restrict_domid(NO_SUCH_DOMAIN)
    refusals: list[Callable[[], object]] = [
        lambda: channel.bind_virq(Virq.ARGO),
        lambda: channel.bind_virq(99),
        lambda: channel.bind_unbound_port(NO_SUCH_DOMAIN),
        lambda: channel.bind_interdomain(0, 1),
        lambda: channel.bind_interdomain(DOMID_SELF, 1),
    ]
    for refused in refusals:
        with pytest.raises(PermissionError) as caught:
            refused()
        assert caught.value.errno == errno.EACCES
        assert "restricted" in caught.value.__notes__[0]
    with pytest.raises(ProcessLookupError):
        channel.bind_interdomain(NO_SUCH_DOMAIN, 1)


def test_the_ports_of_a_restricted_handle_go_on_working(open_channel: OpenChannel) -> None:
    pair = connect(open_channel(), open_channel())
    pair.far.restrict_domid(NO_SUCH_DOMAIN)
    pair.near.notify(pair.near_port)
    expect(pair.far, pair.far_port)
    pair.far.unmask(pair.far_port)
    pair.far.notify(pair.far_port)
    expect(pair.near, pair.near_port)
    pair.far.reset()
    pair.far.unbind(pair.far_port)


def test_a_restriction_is_for_one_handle_alone(open_channel: OpenChannel) -> None:
    open_channel().restrict_domid(NO_SUCH_DOMAIN)
    assert open_channel().bind_virq(Virq.ARGO)

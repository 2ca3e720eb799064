"""Calls that a test makes fail."""

import errno
import select
from collections.abc import Callable
from typing import Literal

import pytest

from pyxenevtchn import EventChannel, Request, Virq
from pyxenevtchn.fake import Hypervisor

from .helpers import refused

CALLS: dict[Request | Literal["read", "write"], Callable[[EventChannel, int], object]] = {
    Request.BIND_VIRQ: lambda channel, _port: channel.bind_virq(Virq.ARGO),
    Request.BIND_UNBOUND_PORT: lambda channel, _port: channel.bind_unbound_port(0),
    Request.BIND_INTERDOMAIN: lambda channel, port: channel.bind_interdomain(0, port),
    Request.BIND_STATIC: lambda channel, _port: channel.bind_static(1000),
    Request.UNBIND: lambda channel, port: channel.unbind(port),
    Request.NOTIFY: lambda channel, port: channel.notify(port),
    Request.RESET: lambda channel, _port: channel.reset(),
    Request.RESTRICT_DOMID: lambda channel, _port: channel.restrict_domid(1),
    "read": lambda channel, _port: channel.read(),
    "write": lambda channel, port: channel.unmask(port),
}


@pytest.mark.parametrize("operation", CALLS)
def test_an_injected_failure_comes_once_and_changes_nothing(
    operation: Request | Literal["read", "write"],
) -> None:
    xen = Hypervisor(linux=(6, 6))
    xen.create_domain().fail_next(operation, errno.ENOSYS)  # in another domain
    with xen.dom0.open() as channel:
        port = channel.bind_unbound_port(0)
        channel.bind_virq(Virq.DEBUG)
        xen.raise_virq(Virq.DEBUG)
        xen.dom0.fail_next(operation, errno.EIO)
        before, bound = xen.ports(0), dict(channel.bindings)
        with refused(errno.EIO) as caught:
            CALLS[operation](channel, port)
        assert str(caught.value).startswith(f"[Errno 5] {operation}(")
        assert xen.ports(0) == before
        assert channel.bindings == bound
        assert channel.poll(0) == select.POLLIN
        CALLS[operation](channel, port)


def test_injected_failures_come_in_their_order() -> None:
    xen = Hypervisor()
    for number in (errno.EIO, errno.ENOSYS):
        xen.dom0.fail_next(Request.RESET, number)
    with xen.dom0.open() as channel:
        for number in (errno.EIO, errno.ENOSYS):
            with refused(number):
                channel.reset()
        channel.reset()
    with pytest.raises(ValueError, match=r"bind_virq, .* write, not 'poll'"):
        xen.dom0.fail_next("poll", errno.EIO)  # type: ignore[arg-type]

"""What only a fake can do: domains made and destroyed, VIRQs raised, failures asked for."""

import errno
import select
from collections.abc import Callable
from typing import Literal

import pytest

from pyxenevtchn import DOMID_SELF, EventChannel, Request, Virq
from pyxenevtchn.fake import Domain, Hypervisor, State

from ..concurrency import threads, until_asleep
from .test_hypervisor import refused


def connect(
    near: EventChannel, near_domid: int, far: EventChannel, far_domid: int
) -> tuple[int, int]:
    near_port = near.bind_unbound_port(far_domid)
    return near_port, far.bind_interdomain(near_domid, near_port)


def test_two_domains_talk_to_each_other() -> None:
    xen = Hypervisor()
    guest = xen.create_domain()
    with xen.dom0.open() as backend, guest.open() as frontend:
        near, far = connect(backend, 0, frontend, guest.domid)
        frontend.unmask(frontend.read())
        backend.notify(near)
        assert frontend.wait(0) == [far]
        frontend.notify(far)
        assert backend.wait(0) == [near]
    xen.check_clean()


def test_each_domain_has_ports_of_its_own() -> None:
    xen = Hypervisor()
    first, second = xen.create_domain(), xen.create_domain()
    with first.open() as one, first.open() as neighbour, second.open() as stranger:
        assert one.bind_virq(Virq.DEBUG) == stranger.bind_virq(Virq.DEBUG)
        with pytest.raises(FileExistsError):
            neighbour.bind_virq(Virq.DEBUG)


def test_the_kernels_hold_the_low_ports_and_their_virqs() -> None:
    xen = Hypervisor()
    guest = xen.create_domain()
    for domid, virqs, number in (
        (0, {Virq.TIMER, Virq.CONSOLE, Virq.PCPU_STATE, Virq.ARCH_0}, 20),
        (guest.domid, {Virq.TIMER}, 8),
    ):
        ports = xen.ports(domid)
        assert [port.port for port in ports] == list(range(1, number + 1))
        assert all(port.kernel for port in ports)
        assert {port.virq for port in ports} - {None} == virqs


def test_the_port_table_tells_what_lsevtchn_would() -> None:
    xen = Hypervisor()
    guest = xen.create_domain(7)
    with xen.dom0.open() as backend, guest.open() as frontend:
        near, far = connect(backend, 0, frontend, 7)
        unbound = frontend.bind_unbound_port(DOMID_SELF)
        virq = frontend.bind_virq(Virq.ARGO)
        table = {port.port: port for port in xen.ports(7) if not port.kernel}
        assert set(table) == {far, unbound, virq}
        connected = table[far]
        assert (connected.state, connected.remote_domid, connected.remote_port) == (
            State.INTERDOMAIN,
            0,
            near,
        )
        assert (connected.pending, connected.masked) == (False, True)
        assert (table[unbound].state, table[unbound].remote_domid) == (State.UNBOUND, 7)
        assert (table[virq].state, table[virq].virq) == (State.VIRQ, Virq.ARGO)
        backend.notify(near)
        assert next(port for port in xen.ports(7) if port.port == far).pending
    with pytest.raises(LookupError, match="no domain 9: the domids are 0, 7"):
        xen.ports(9)


@pytest.mark.parametrize("abi", ["fifo", "2l"])
def test_a_handle_can_bind_every_port_that_the_abi_has(abi: str) -> None:
    xen = Hypervisor(abi="2l" if abi == "2l" else "fifo")
    limit = 4096 if abi == "2l" else 131072
    device = xen.dom0.device()
    for _ in range(limit - 1 - len(xen.ports(0))):
        highest = device.ioctl(Request.BIND_UNBOUND_PORT, 0)
    assert highest == limit - 1
    with refused(errno.ENOSPC):
        device.ioctl(Request.BIND_UNBOUND_PORT, 0)
    device.close()
    xen.check_clean()


def test_a_global_virq_is_raised_in_dom0() -> None:
    xen = Hypervisor()
    guest = xen.create_domain()
    with xen.dom0.open() as channel, guest.open() as deaf:
        port = channel.bind_virq(Virq.CON_RING)
        deaf.bind_virq(Virq.CON_RING)
        xen.raise_virq(Virq.CON_RING)
        assert channel.wait(0) == [port]
        assert deaf.wait(0) == []
        with pytest.raises(ValueError, match="CON_RING in dom0 alone"):
            xen.raise_virq(Virq.CON_RING, guest)


@pytest.mark.parametrize("virq", [Virq.DEBUG, Virq.ARGO])
def test_other_virqs_are_raised_where_one_says(virq: Virq) -> None:
    xen = Hypervisor()
    guest = xen.create_domain()
    with xen.dom0.open() as channel, guest.open() as other:
        port, there = channel.bind_virq(virq), other.bind_virq(virq)
        xen.raise_virq(virq)
        assert (channel.wait(0), other.wait(0)) == ([port], [])
        xen.raise_virq(virq, guest)
        assert (channel.wait(0), other.wait(0)) == ([], [there])


def test_a_virq_that_nobody_bound_is_lost() -> None:
    xen = Hypervisor()
    xen.raise_virq(Virq.DEBUG)
    xen.raise_virq(Virq.TIMER)
    with xen.dom0.open() as channel:
        channel.bind_virq(Virq.DEBUG)
        assert channel.wait(0) == []
    for virq in (-1, 24):
        with pytest.raises(ValueError, match=f"not {virq}"):
            xen.raise_virq(virq)


def test_from_xen_4_21_a_global_virq_binds_in_dom0_alone() -> None:
    xen = Hypervisor(xen_version=(4, 21))
    with xen.create_domain().open() as channel:
        with refused(errno.EBUSY) as caught:
            channel.bind_virq(Virq.CON_RING)
        assert "4.21" in caught.value.__notes__[0]
        assert not channel.bindings


def test_events_that_are_delivered_by_hand_wait_until_then() -> None:
    xen = Hypervisor(delivery="manual")
    with xen.dom0.open() as channel:
        sender = channel.bind_unbound_port(DOMID_SELF)
        receiver = channel.bind_interdomain(DOMID_SELF, sender)
        assert channel.poll(0) == 0
        assert xen.deliver() == 1
        assert channel.wait(0) == [receiver]
        channel.notify(sender)
        channel.unmask(receiver)
        assert channel.wait(0) == []
        assert (xen.deliver(), xen.deliver()) == (1, 0)
        assert channel.wait(0) == [receiver]


def test_a_domain_that_is_destroyed_leaves_its_peers_unbound() -> None:
    xen = Hypervisor()
    guest = xen.create_domain()
    with xen.dom0.open() as backend, guest.open() as frontend:
        news = backend.bind_virq(Virq.DOM_EXC)
        near, _ = connect(backend, 0, frontend, guest.domid)
        guest.destroy()
        assert backend.wait(0) == [news]
        backend.notify(near)
        port = next(port for port in xen.ports(0) if port.port == near)
        assert (port.state, port.remote_domid) == (State.UNBOUND, guest.domid)
        with pytest.raises(ProcessLookupError):
            backend.bind_interdomain(guest.domid, 1)
        # One that comes back with the same domid can connect again.
        with xen.create_domain(guest.domid).open() as again:
            assert again.wait(0) == []
            assert again.bind_interdomain(0, near)
    xen.check_clean()


@pytest.mark.parametrize(
    "call",
    [
        lambda channel: channel.bind_unbound_port(0),
        lambda channel: channel.notify(1),
        lambda channel: channel.reset(),
        lambda channel: channel.read(),
        lambda channel: channel.wait(0),
        lambda channel: channel.unmask(1),
    ],
)
def test_the_handles_of_a_destroyed_domain_say_so(call: Callable[[EventChannel], object]) -> None:
    xen = Hypervisor()
    guest = xen.create_domain()
    with guest.open() as channel:
        channel.bind_virq(Virq.DEBUG)
        guest.destroy()
        assert channel.poll(0) == select.POLLERR
        with refused(errno.ENODEV) as caught:
            call(channel)
        assert caught.value.__notes__ == ["the domain of this fake was destroyed"]
    xen.check_clean()
    assert repr(guest) == f"<Domain {guest.domid} destroyed>"


def test_a_domain_can_be_destroyed_while_a_ring_has_overflowed() -> None:
    xen = Hypervisor()
    guest = xen.create_domain()
    with guest.open() as channel:
        for _ in range(65):
            sender = channel.bind_unbound_port(DOMID_SELF)
            channel.unbind(channel.bind_interdomain(DOMID_SELF, sender))
            channel.unbind(sender)
        guest.destroy()
        assert channel.poll(0) == select.POLLERR
    xen.check_clean()


@pytest.mark.parametrize("nonblocking", [True, False])
def test_destroying_a_domain_wakes_those_who_wait(nonblocking: bool) -> None:
    xen = Hypervisor()
    guest = xen.create_domain()

    def read() -> None:
        with refused(errno.ENODEV):
            channel.wait()

    with guest.open(nonblocking=nonblocking) as channel, threads(read) as (waiter,):
        until_asleep(waiter)
        guest.destroy()


def test_a_domain_is_destroyed_once_and_dom0_never() -> None:
    xen = Hypervisor()
    guest = xen.create_domain()
    guest.destroy()
    for call in (guest.destroy, lambda: xen.raise_virq(Virq.DEBUG, guest)):
        with pytest.raises(ValueError, match="no domain of this hypervisor, or no longer"):
            call()
    with refused(errno.ENODEV):
        guest.open()
    with pytest.raises(ValueError, match="dom0 cannot be destroyed"):
        xen.dom0.destroy()
    with pytest.raises(LookupError, match="no domain 1"):
        xen.domain(guest.domid)
    assert xen.domain(0) is xen.dom0


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
def test_a_failure_that_was_asked_for_comes_once_and_changes_nothing(
    operation: Request | Literal["read", "write"],
) -> None:
    xen = Hypervisor()
    xen.create_domain().fail_next(operation, errno.ENOSYS)  # another domain's, none of this one's
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


def test_failures_come_in_the_order_in_which_they_were_asked_for() -> None:
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


def test_what_is_left_behind_is_named() -> None:
    xen = Hypervisor()
    guest = xen.create_domain()
    xen.check_clean()
    with guest.open() as channel:
        port = channel.bind_unbound_port(0)
        with pytest.raises(AssertionError) as caught:
            xen.check_clean()
        assert str(caught.value) == (
            f"left behind in domain 1: a handle with fd [{channel.fileno()}], port {port} (unbound)"
        )
    xen.check_clean()


def test_hypervisors_share_nothing() -> None:
    one, other = Hypervisor(), Hypervisor()
    with one.dom0.open() as channel, other.dom0.open() as stranger:
        assert channel.bind_virq(Virq.DEBUG) == stranger.bind_virq(Virq.DEBUG)
        one.raise_virq(Virq.DEBUG)
        assert stranger.wait(0) == []
    domain: Domain = other.create_domain()
    with pytest.raises(ValueError, match="no domain of this hypervisor"):
        one.raise_virq(Virq.DEBUG, domain)


def test_a_hypervisor_of_another_kind_is_refused() -> None:
    with pytest.raises(ValueError, match="abi must be fifo or 2l, not '3l'"):
        Hypervisor(abi="3l")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="delivery must be immediate or manual, not 'late'"):
        Hypervisor(delivery="late")  # type: ignore[arg-type]

"""What only a fake can do: domains made and destroyed, VIRQs raised, failures asked for."""

import errno
import select
from collections.abc import Callable
from typing import Literal

import pytest

from pyxenevtchn import DOMID_SELF, EventChannel, Request, Virq
from pyxenevtchn.abi import Machine
from pyxenevtchn.fake import Domain, Hypervisor, State, Xsm
from pyxenevtchn.fake.model.configuration import Abi

from ..concurrency import threads, until_asleep
from .model.test_xen import refused


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


@pytest.mark.parametrize(
    ("machine", "abi", "dom0", "guest", "first_free"),
    [
        ("pv", "fifo", {"TIMER", "PCPU_STATE", "ARCH_0", "CONSOLE"}, {"TIMER"}, (21, 8)),
        (
            "pv",
            "2l",
            {"TIMER", "DEBUG", "PCPU_STATE", "ARCH_0", "CONSOLE"},
            {"TIMER", "DEBUG"},
            (23, 9),
        ),
        ("pvh", "fifo", {"TIMER", "PCPU_STATE", "CONSOLE"}, {"TIMER"}, (15, 7)),
        ("arm64", "2l", {"CONSOLE"}, set(), (4, 3)),
    ],
)
def test_the_kernels_hold_what_they_do_on_such_a_machine(
    machine: Machine, abi: Abi, dom0: set[str], guest: set[str], first_free: tuple[int, int]
) -> None:
    xen = Hypervisor(machine=machine, abi=abi)
    with xen.dom0.open() as channel:
        assert channel.bind_unbound_port(0) == first_free[0]
    domain = xen.create_domain()
    with domain.open() as channel:
        assert channel.bind_unbound_port(0) == first_free[1]
        for virq in Virq:
            if virq.name in guest:
                with pytest.raises(FileExistsError):
                    channel.bind_virq(virq)
            else:
                channel.bind_virq(virq)
    for domid, virqs in ((0, dom0), (domain.domid, guest)):
        held = {Virq(port.virq).name for port in xen.ports(domid) if port.virq is not None}
        assert held == virqs


def test_dom0s_daemons_hold_an_end_of_each_domain() -> None:
    xen = Hypervisor()
    guest = xen.create_domain()
    theirs = {port.daemon: port for port in xen.ports(0) if port.remote_domid == guest.domid}
    assert set(theirs) == {"xenstored", "xenconsoled"}
    for daemon, number in (("xenstored", 1), ("xenconsoled", 2)):
        assert theirs[daemon].remote_port == number
        assert not theirs[daemon].kernel
    with xen.dom0.open() as channel:
        for number in (1, 2):
            with refused(errno.EINVAL):
                channel.bind_interdomain(guest.domid, number)
    before = len(xen.ports(0))
    guest.destroy()
    assert len(xen.ports(0)) == before - 2
    xen.check_clean()


def test_a_guest_has_1023_ports_unless_it_is_created_with_others() -> None:
    xen = Hypervisor()
    for domain, most in ((xen.create_domain(), 1023), (xen.create_domain(max_ports=20), 20)):
        with domain.open() as channel:
            while channel.bind_unbound_port(0) < most:
                pass
            with refused(errno.ENOSPC) as caught:
                channel.bind_unbound_port(0)
            assert "max_event_channels" in caught.value.__notes__[0]
    with pytest.raises(ValueError, match="max_ports is less than the kernel itself needs"):
        xen.create_domain(domid=77, max_ports=6)
    assert xen.create_domain(domid=77, max_ports=7).domid == 77


def test_static_channels_are_there_for_bind_static() -> None:
    xen = Hypervisor(linux=(6, 12), machine="arm64")
    guest = xen.create_domain(static={10: (xen.dom0, 12)})
    with xen.dom0.open() as near, guest.open() as far:
        near.bind_static(12)
        far.bind_static(10)
        # Xen connected the guest's end, so that is pending.
        assert (near.wait(0), far.wait(0)) == ([], [10])
        far.notify(10)
        assert near.wait(0) == [12]
        near.unmask(12)
        near.unbind(12)
        far.notify(10)  # waits, masked
        near.bind_static(12)
        assert near.wait(0) == [12]
    xen.check_clean()
    static = [port for port in xen.ports(0) if port.static]
    assert [(port.port, port.remote_domid, port.remote_port) for port in static] == [(12, 1, 10)]


def test_static_channels_can_be_made_between_any_two_domains() -> None:
    xen = Hypervisor(linux=(6, 12), xsm="silo")
    one, other = xen.create_domain(), xen.create_domain()
    xen.connect_static(one, 100, other, 200)
    with one.open() as near, other.open() as far:
        near.bind_static(100)
        far.bind_static(200)
        assert far.wait(0) == [200]
        near.notify(100)
        far.unmask(200)
        assert far.wait(0) == [200]
    with refused(errno.EBUSY):
        xen.connect_static(one, 100, other, 201)
    before = xen.ports(0)
    with refused(errno.EBUSY):
        xen.create_domain(domid=9, static={7: (xen.dom0, 500), 8: (one, 100)})
    assert xen.ports(0) == before
    assert xen.create_domain(domid=9, static={7: (xen.dom0, 500)}).domid == 9


def test_under_silo_domains_do_not_connect_with_each_other() -> None:
    xen = Hypervisor(xsm="silo")
    one, other = xen.create_domain(), xen.create_domain()
    with xen.dom0.open() as dom0, one.open() as near, other.open() as far:
        connect(dom0, 0, far, other.domid)
        with refused(errno.EPERM) as caught:
            near.bind_unbound_port(other.domid)
        assert "SILO" in caught.value.__notes__[0]
        with refused(errno.ESRCH) as caught:
            near.bind_unbound_port(99)
        assert "SILO" in caught.value.__notes__[0]


def test_a_policy_of_ones_own_refuses_what_it_likes() -> None:
    class Flask(Xsm):
        def evtchn_interdomain(self, domid: int, remote_domid: int) -> None:
            if domid and remote_domid == 0:
                raise OSError(errno.EACCES, "Permission denied")

    xen = Hypervisor(xsm=Flask())
    guest = xen.create_domain()
    with xen.dom0.open() as near, guest.open() as far:
        connect(far, guest.domid, near, 0)
        port = near.bind_unbound_port(guest.domid)
        with refused(errno.EACCES) as caught:
            far.bind_interdomain(0, port)
        assert "FLASK" in caught.value.__notes__[0]


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
        assert not any(port.static for port in table.values())
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
        with pytest.raises(ValueError, match="CON_RING only in dom0"):
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


def test_a_global_virq_goes_to_the_domain_that_handles_it() -> None:
    xen = Hypervisor()
    guest = xen.create_domain()
    xen.set_virq_handler(Virq.DOM_EXC, guest)
    with xen.dom0.open() as ours, guest.open() as theirs:
        ours.bind_virq(Virq.DOM_EXC)
        port = theirs.bind_virq(Virq.DOM_EXC)
        xen.create_domain().destroy()
        xen.raise_virq(Virq.DOM_EXC)
        assert (ours.wait(0), theirs.wait(0)) == ([], [port])
        with pytest.raises(ValueError, match="DOM_EXC only in domain 1"):
            xen.raise_virq(Virq.DOM_EXC, xen.dom0)
        xen.raise_virq(Virq.DOM_EXC, guest)
        guest.destroy()
        assert len(ours.wait(0)) == 1
    with refused(errno.EINVAL):
        xen.set_virq_handler(Virq.TIMER, xen.dom0)


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


def test_events_are_delivered_by_domain_and_as_many_as_one_says() -> None:
    xen = Hypervisor(delivery="manual")
    guest = xen.create_domain()
    with xen.dom0.open() as near, guest.open() as far:
        ends = [connect(far, guest.domid, near, 0) for _ in range(3)]
        assert xen.deliver(guest) == 0
        assert xen.deliver(most=2) == 2
        assert near.wait(0) == [port for _, port in ends[:2]]
        near.notify_many([port for _, port in ends])
        assert xen.deliver(guest, most=1) == 1
        assert far.wait(0) == [ends[0][0]]
        assert xen.deliver() == 3
        assert (len(near.wait(0)), len(far.wait(0))) == (1, 2)
    with pytest.raises(ValueError, match="a domain of this hypervisor"):
        xen.deliver(Hypervisor().dom0)


def test_in_a_storm_unmasking_takes_until_the_next_delivery() -> None:
    xen = Hypervisor(delivery="manual")
    with xen.dom0.open() as channel:
        sender = channel.bind_unbound_port(DOMID_SELF)
        port = channel.bind_interdomain(DOMID_SELF, sender)
        assert xen.deliver(storm=True) == 1
        assert channel.wait(0) == [port]
        channel.unmask(port)
        channel.notify(sender)
        assert next(each for each in xen.ports(0) if each.port == port).masked
        assert xen.deliver() == 1
        assert channel.wait(0) == [port]


@pytest.mark.parametrize(("delivery", "now"), [("immediate", True), ("manual", False)])
def test_what_is_sent_to_a_paused_domain_comes_once_after_that(
    delivery: Literal["immediate", "manual"], now: bool
) -> None:
    xen = Hypervisor(delivery=delivery)
    guest = xen.create_domain()
    with xen.dom0.open() as near, guest.open() as far:
        ends = [connect(near, 0, far, guest.domid) for _ in range(3)]
        xen.deliver()
        far.unmask(far.wait(0))
        guest.pause()
        for port, _ in [*reversed(ends), *ends]:
            near.notify(port)
        assert xen.deliver() == 0
        assert far.wait(0) == []
        far.notify(ends[0][1])  # a test's word, not a real process's
        assert xen.deliver() == (not now)
        assert near.wait(0) == [ends[0][0]]
        guest.unpause()
        assert xen.deliver() == (0 if now else 3)
        assert far.wait(0) == [port for _, port in reversed(ends)]
    with pytest.raises(ValueError, match="dom0 cannot be paused"):
        xen.dom0.pause()
    guest.destroy()
    for call in (guest.pause, guest.unpause):
        with pytest.raises(ValueError, match="<Domain 1 destroyed> does not run"):
            call()


def test_a_paused_domain_with_the_2_level_abi_hears_in_the_order_of_its_ports() -> None:
    xen = Hypervisor(abi="2l")
    guest = xen.create_domain()
    with xen.dom0.open() as near, guest.open() as far:
        ends = [connect(near, 0, far, guest.domid) for _ in range(4)]
        far.unmask(far.wait(0))
        guest.pause()
        near.notify_many([port for port, _ in reversed(ends)])
        guest.unpause()
        assert far.wait(0) == [port for _, port in ends]


def test_a_paused_domain_with_shuffled_events_hears_after_that() -> None:
    xen = Hypervisor(delivery="shuffled")
    guest = xen.create_domain()
    with xen.dom0.open() as near, guest.open() as far:
        port, theirs = connect(near, 0, far, guest.domid)
        far.unmask(far.wait(0))
        guest.pause()
        near.notify(port)
        assert far.wait(0) == []
        guest.unpause()
        assert far.wait(0) == [theirs]


def test_a_domain_that_is_destroyed_by_hand_is_dying_until_the_next_delivery() -> None:
    xen = Hypervisor(delivery="manual")
    guest = xen.create_domain()
    with xen.dom0.open() as channel:
        news = channel.bind_virq(Virq.DOM_EXC)
        guest.destroy()
        with refused(errno.EINVAL):
            channel.bind_interdomain(guest.domid, 0)
        with pytest.raises(ValueError, match="domain 1 exists already"):
            xen.create_domain(guest.domid)
        assert xen.deliver(xen.dom0) == 1
        with refused(errno.EINVAL):
            channel.bind_interdomain(guest.domid, 0)
        channel.unmask(channel.wait(0))
        assert xen.deliver() == 0
        with refused(errno.ESRCH):
            channel.bind_interdomain(guest.domid, 0)
        assert xen.deliver() == 1
        assert channel.wait(0) == [news]


def test_dom0_hears_twice_of_a_domain_that_is_destroyed() -> None:
    xen = Hypervisor()
    with xen.dom0.open() as channel:
        news = channel.bind_virq(Virq.DOM_EXC)
        xen.create_domain().destroy()
        for _ in range(2):
            assert channel.wait(0) == [news]
            channel.unmask(news)
        assert channel.wait(0) == []


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
        assert caught.value.__notes__ == ["the domain of this fake is no more"]
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
        with pytest.raises(ValueError, match="is not, or no longer, a domain of this hypervisor"):
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
    xen = Hypervisor(linux=(6, 6))
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
    with pytest.raises(ValueError, match="a domain of this hypervisor"):
        one.raise_virq(Virq.DEBUG, domain)


def test_a_hypervisor_of_another_kind_is_refused() -> None:
    with pytest.raises(ValueError, match="abi must be fifo or 2l, not '3l'"):
        Hypervisor(abi="3l")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="immediate, manual or shuffled, not 'late'"):
        Hypervisor(delivery="late")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="xsm must be dummy or silo or an Xsm, not 'flask'"):
        Hypervisor(xsm="flask")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="machine must be pv, pvh or arm64, not 'hvm'"):
        Hypervisor(machine="hvm")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"linux must be 5.11 or newer, not 5\.10"):
        Hypervisor(linux=(5, 10))

"""The model of Xen, by itself: a domain's hypercalls and what they do to the port tables."""

import errno

import pytest

from pyxenevtchn import DOMID_SELF, Virq
from pyxenevtchn.fake.hypervisor import MAX_CHANNELS, Evtchn, State, Xen, XenDomain


@pytest.fixture
def xen() -> Xen:
    return Xen((4, 17), MAX_CHANNELS["fifo"])


def connect(binder: XenDomain, owner: XenDomain) -> tuple[int, int]:
    """Connect two domains; return the binder's port and the owner's."""
    port = owner.alloc_unbound(binder.domid)
    return binder.bind_interdomain(owner.domid, port), port


def refused(number: int) -> "pytest.RaisesExc[OSError]":
    return pytest.RaisesExc(OSError, check=lambda error: error.errno == number)


def table(xen: Xen) -> dict[int, dict[int, tuple[object, ...]]]:
    """Everything that the port tables say."""
    return {
        domid: {
            port: (e.state, e.remote_domid, e.peer, e.virq, e.pending, e.masked)
            for port, e in domain.ports.items()
        }
        for domid, domain in xen.domains.items()
    }


def test_the_lowest_free_port_comes_first_and_never_port_0(xen: Xen) -> None:
    dom0 = xen.domains[0]
    assert [dom0.alloc_unbound(0) for _ in range(4)] == [1, 2, 3, 4]
    for port in (3, 1, 2):
        dom0.close(port)
    assert [dom0.alloc_unbound(0) for _ in range(4)] == [1, 2, 3, 5]


@pytest.mark.parametrize(("abi", "number"), [("fifo", 131072), ("2l", 4096)])
def test_a_domain_has_as_many_ports_as_the_abi_says(abi: str, number: int) -> None:
    xen = Xen((4, 17), MAX_CHANNELS[abi])
    dom0 = xen.domains[0]
    for _ in range(number - 1):
        highest = dom0.bind_ipi()
    assert highest == number - 1
    with refused(errno.ENOSPC):
        dom0.alloc_unbound(0)
    with refused(errno.ENOSPC):
        dom0.bind_virq(Virq.DEBUG)
    # A port is looked for here before the one there is looked at.
    with refused(errno.ENOSPC):
        dom0.bind_interdomain(0, 0)
    with refused(errno.ESRCH):
        dom0.bind_interdomain(7, 1)
    with refused(errno.EINVAL):
        dom0.bind_virq(24)
    dom0.close(77)
    assert dom0.bind_virq(Virq.DEBUG) == 77


def test_a_port_that_connects_is_pending_and_the_other_is_not(xen: Xen) -> None:
    dom0, guest = xen.domains[0], xen.create()
    near, far = connect(dom0, guest)
    assert dom0.ports[near].pending
    assert not guest.ports[far].pending
    assert dom0.ports[near].peer is guest.ports[far]
    assert guest.ports[far].peer is dom0.ports[near]


@pytest.mark.parametrize("domid", [1, 0x7FF0 - 1, 0x7FF1, 0xFFFF])
def test_only_domains_that_exist_can_be_connected_to(xen: Xen, domid: int) -> None:
    before = table(xen)
    with refused(errno.ESRCH):
        xen.domains[0].bind_interdomain(domid, 1)
    assert table(xen) == before


def test_only_an_unbound_port_for_this_domain_can_be_connected_to(xen: Xen) -> None:
    dom0, guest = xen.domains[0], xen.create()
    ports = [
        0,
        50,
        131072,
        guest.alloc_unbound(7),
        guest.alloc_unbound(DOMID_SELF),
        guest.bind_virq(Virq.TIMER),
        guest.bind_ipi(),
        connect(dom0, guest)[1],
    ]
    before = table(xen)
    for port in ports:
        with refused(errno.EINVAL):
            dom0.bind_interdomain(guest.domid, port)
    assert table(xen) == before
    # What failed took no port.
    assert dom0.alloc_unbound(0) == len(dom0.ports)


def test_virqs_are_bound_once_in_each_domain(xen: Xen) -> None:
    dom0, guest = xen.domains[0], xen.create()
    port = dom0.bind_virq(Virq.DEBUG)
    guest.bind_virq(Virq.DEBUG)
    with refused(errno.EEXIST):
        dom0.bind_virq(Virq.DEBUG)
    dom0.close(port)
    assert dom0.bind_virq(Virq.DEBUG) == port


@pytest.mark.parametrize("virq", [Virq.CON_RING, 5, 15, Virq.ARCH_7])
def test_a_global_virq_is_refused_to_others_from_xen_4_21(virq: int) -> None:
    old, new = Xen((4, 20), 4096), Xen((4, 21), 4096)
    guest = old.create()
    port = guest.bind_virq(virq)
    old.domains[0].raise_virq(virq)
    assert not guest.ports[port].pending
    with refused(errno.EBUSY):
        new.create().bind_virq(virq)
    assert new.domains[0].bind_virq(virq) == 1


@pytest.mark.parametrize("virq", [Virq.DEBUG, Virq.ARGO])
def test_xen_4_21_lets_any_domain_bind_its_own_virqs(virq: int) -> None:
    guest = Xen((4, 21), 4096).create()
    port = guest.bind_virq(virq)
    guest.raise_virq(virq)
    assert guest.ports[port].pending


def test_events_reach_the_other_end_alone(xen: Xen) -> None:
    dom0, guest = xen.domains[0], xen.create()
    near, far = connect(dom0, guest)
    dom0.ports[near].pending = False
    dom0.send(near)
    assert guest.ports[far].pending
    assert not dom0.ports[near].pending


def test_an_event_to_nobody_is_dropped(xen: Xen) -> None:
    dom0 = xen.domains[0]
    port = dom0.alloc_unbound(0)
    dom0.send(port)
    assert not dom0.ports[port].pending
    for other in (0, 99, dom0.bind_virq(Virq.DEBUG)):
        with refused(errno.EINVAL):
            dom0.send(other)


def test_the_upcall_comes_once_and_only_while_unmasked(xen: Xen) -> None:
    dom0, guest = xen.domains[0], xen.create()
    near, far = connect(dom0, guest)
    calls: list[Evtchn] = []
    guest.upcall = calls.append
    for _ in range(3):
        dom0.send(near)
    assert calls == []
    guest.unmask(far)
    dom0.send(near)
    assert calls == [guest.ports[far]]
    calls[0].pending = False
    guest.unmask(far)
    assert len(calls) == 1
    with refused(errno.EINVAL):
        guest.unmask(99)


def test_closing_one_end_leaves_the_other_unbound_for_the_closer(xen: Xen) -> None:
    dom0, guest = xen.domains[0], xen.create()
    near, far = connect(dom0, guest)
    dom0.send(near)
    dom0.close(near)
    survivor = guest.ports[far]
    assert (survivor.state, survivor.remote_domid, survivor.peer) == (State.UNBOUND, 0, None)
    assert survivor.pending
    guest.send(far)
    assert dom0.bind_interdomain(guest.domid, far) == near
    with refused(errno.EINVAL):
        dom0.close(99)


def test_a_port_that_is_used_again_starts_anew(xen: Xen) -> None:
    dom0, guest = xen.domains[0], xen.create()
    near, far = connect(dom0, guest)
    dom0.send(near)
    guest.unmask(far)
    guest.close(far)
    assert guest.alloc_unbound(0) == far
    assert not guest.ports[far].pending
    assert guest.ports[far].masked


def test_a_domain_that_is_destroyed_closes_its_ports_and_dom0_hears_of_it(xen: Xen) -> None:
    dom0, guest = xen.domains[0], xen.create(5)
    near, _ = connect(dom0, guest)
    _, owned = connect(guest, dom0)
    connect(guest, guest)
    news = dom0.bind_virq(Virq.DOM_EXC)
    xen.destroy(guest)
    assert guest.ports == {}
    for port in (near, owned):
        assert (dom0.ports[port].state, dom0.ports[port].remote_domid) == (State.UNBOUND, 5)
    assert dom0.ports[news].pending
    with refused(errno.ESRCH):
        dom0.bind_interdomain(5, 1)


def test_domids_are_given_in_order_and_not_again(xen: Xen) -> None:
    assert [xen.create().domid, xen.create(3).domid, xen.create().domid] == [1, 3, 4]
    xen.destroy(xen.domains[4])
    assert xen.create().domid == 5
    assert xen.create(4).domid == 4


@pytest.mark.parametrize("domid", [-1, 0, 0x7FF0, 0x10000])
def test_no_second_domain_and_none_with_a_reserved_domid(xen: Xen, domid: int) -> None:
    with pytest.raises(ValueError, match=str(domid)):
        xen.create(domid)
    assert list(xen.domains) == [0]

"""The model of Xen: a domain's hypercalls and what they do to the port tables."""

import errno

import pytest

from pyxenevtchn import DOMID_SELF, Virq
from pyxenevtchn.fake import State
from pyxenevtchn.fake.model.xen import MAX_CHANNELS, Evtchn, Xen, XenDomain
from pyxenevtchn.fake.model.xsm import Silo, Xsm

from ..helpers import refused


@pytest.fixture
def xen() -> Xen:
    return Xen((4, 17), MAX_CHANNELS["fifo"], Xsm())


def connect(binder: XenDomain, owner: XenDomain) -> tuple[int, int]:
    """Connect two domains; return the binder's port and the owner's."""
    port = owner.alloc_unbound(binder.domid)
    return binder.bind_interdomain(owner.domid, port), port


def table(xen: Xen) -> dict[int, dict[int, tuple[object, ...]]]:
    """Return everything in the port tables."""
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
    xen = Xen((4, 17), MAX_CHANNELS[abi], Xsm())
    dom0 = xen.domains[0]
    for _ in range(number - 1):
        highest = dom0.bind_ipi()
    assert highest == number - 1
    with refused(errno.ENOSPC):
        dom0.alloc_unbound(0)
    with refused(errno.ENOSPC):
        dom0.bind_virq(Virq.DEBUG)
    # Xen takes a free port here before it checks the remote port.
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
    # The failed calls took no port.
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
    old, new = Xen((4, 20), 4096, Xsm()), Xen((4, 21), 4096, Xsm())
    guest = old.create()
    port = guest.bind_virq(virq)
    old.domains[0].raise_virq(virq)
    assert not guest.ports[port].pending
    with refused(errno.EBUSY):
        new.create().bind_virq(virq)
    assert new.domains[0].bind_virq(virq) == 1


@pytest.mark.parametrize("virq", [Virq.DEBUG, Virq.ARGO])
def test_xen_4_21_lets_any_domain_bind_its_own_virqs(virq: int) -> None:
    guest = Xen((4, 21), 4096, Xsm()).create()
    port = guest.bind_virq(virq)
    guest.raise_virq(virq)
    assert guest.ports[port].pending


def test_events_reach_only_the_other_end(xen: Xen) -> None:
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


def test_a_domain_dies_in_two_steps_and_dom0_gets_a_virq_for_each(xen: Xen) -> None:
    dom0, guest = xen.domains[0], xen.create(5)
    near, _ = connect(dom0, guest)
    _, owned = connect(guest, dom0)
    connect(guest, guest)
    theirs = guest.alloc_unbound(0)
    news = dom0.ports[dom0.bind_virq(Virq.DOM_EXC)]
    xen.kill(guest)
    assert guest.ports == {}
    for port in (near, owned):
        assert (dom0.ports[port].state, dom0.ports[port].remote_domid) == (State.UNBOUND, 5)
    assert news.pending
    news.pending = False
    with refused(errno.EINVAL):
        dom0.bind_interdomain(5, theirs)
    xen.free(guest)
    assert news.pending
    with refused(errno.ESRCH):
        dom0.bind_interdomain(5, theirs)


def test_domids_are_allocated_in_order_and_not_again(xen: Xen) -> None:
    assert [xen.create().domid, xen.create(3).domid, xen.create().domid] == [1, 3, 4]
    xen.free(xen.domains[4])
    assert xen.create().domid == 5
    assert xen.create(4).domid == 4


@pytest.mark.parametrize("domid", [-1, 0, 0x7FF0, 0x10000])
def test_no_second_domain_and_none_with_a_reserved_domid(xen: Xen, domid: int) -> None:
    with pytest.raises(ValueError, match=str(domid)):
        xen.create(domid)
    assert list(xen.domains) == [0]


def test_a_guest_has_the_ports_that_its_configuration_says(xen: Xen) -> None:
    guest = xen.create(max_port=7)
    for number in range(1, 8):
        assert guest.alloc_unbound(0) == number
    with refused(errno.ENOSPC):
        guest.alloc_unbound(0)
    for call in (guest.bind_ipi, guest.bind_pirq):
        with refused(errno.ENOSPC):
            call()
    guest.close(3)
    assert guest.bind_virq(Virq.DEBUG) == 3


def test_no_limit_goes_beyond_the_abis() -> None:
    guest = Xen((4, 17), 4096, Xsm()).create(max_port=2**31 - 1)
    for _ in range(4095):
        guest.bind_ipi()
    with refused(errno.ENOSPC):
        guest.bind_ipi()


def test_static_channels_are_connected_and_the_second_end_is_pending(xen: Xen) -> None:
    dom0, guest = xen.domains[0], xen.create()
    dom0.alloc_unbound(0)
    xen.connect_static(dom0, 10, guest, 3)
    assert (dom0.ports[10].state, dom0.ports[10].peer) == (State.INTERDOMAIN, guest.ports[3])
    assert (dom0.ports[10].pending, guest.ports[3].pending) == (False, True)
    # The lower numbers are still allocated first.
    assert [dom0.alloc_unbound(0) for _ in range(9)] == [2, 3, 4, 5, 6, 7, 8, 9, 11]
    assert [guest.alloc_unbound(0) for _ in range(3)] == [1, 2, 4]


def test_a_static_number_has_to_be_free_on_both_sides(xen: Xen) -> None:
    dom0, guest = xen.domains[0], xen.create(max_port=20)
    taken = dom0.alloc_unbound(0)
    before = table(xen)
    for a, b, number in ((taken, 5, errno.EBUSY), (5, 21, errno.ENOSPC), (2**17, 5, errno.ENOSPC)):
        with refused(number):
            xen.connect_static(dom0, a, guest, b)
    assert table(xen) == before
    assert dom0.alloc_unbound(0) == taken + 1
    xen.connect_static(dom0, 5, guest, 5)


def test_a_static_number_that_is_freed_is_allocated_again(xen: Xen) -> None:
    dom0, guest = xen.domains[0], xen.create()
    xen.connect_static(dom0, 2, guest, 2)
    dom0.close(2)
    assert guest.ports[2].state == State.UNBOUND
    assert [dom0.alloc_unbound(0) for _ in range(2)] == [1, 2]


def test_a_number_in_a_queue_of_the_fifo_abi_is_not_allocated(xen: Xen) -> None:
    dom0 = xen.domains[0]
    dom0.free_ports.linked = {1}
    first, second = dom0.alloc_unbound(0), dom0.alloc_unbound(0)
    dom0.close(first)
    assert dom0.alloc_unbound(0) == second + 1
    dom0.free_ports.unlinked(first)
    assert dom0.alloc_unbound(0) == first


def test_under_silo_domains_connect_only_to_dom0_and_themselves() -> None:
    xen = Xen((4, 17), MAX_CHANNELS["fifo"], Silo())
    dom0, one, other = xen.domains[0], xen.create(), xen.create()
    assert connect(dom0, one)
    assert connect(other, dom0)
    assert connect(one, one)
    before = table(xen)
    with refused(errno.EPERM):
        one.alloc_unbound(other.domid)
    # Unlike the default, it checks that the domain exists.
    with refused(errno.ESRCH):
        dom0.alloc_unbound(99)
    assert table(xen) == before
    assert one.alloc_unbound(0) == 4


def test_a_policy_is_asked_last_and_refuses_with_any_errno() -> None:
    class Policy(Xsm):
        def evtchn_interdomain(self, domid: int, remote_domid: int) -> None:
            raise OSError(errno.EACCES, f"{domid} to {remote_domid}")

    xen = Xen((4, 17), MAX_CHANNELS["fifo"], Policy())
    dom0, guest = xen.domains[0], xen.create()
    theirs = guest.alloc_unbound(0)
    with refused(errno.EINVAL):
        dom0.bind_interdomain(guest.domid, 99)
    before = table(xen)
    with refused(errno.EACCES):
        dom0.bind_interdomain(guest.domid, theirs)
    assert table(xen) == before


def test_a_global_virq_goes_to_its_handler(xen: Xen) -> None:
    dom0, guest = xen.domains[0], xen.create()
    ours, theirs = (each.ports[each.bind_virq(Virq.CON_RING)] for each in (dom0, guest))
    xen.set_virq_handler(Virq.CON_RING, guest)
    xen.send_global_virq(Virq.CON_RING)
    assert (ours.pending, theirs.pending) == (False, True)
    xen.kill(guest)
    xen.send_global_virq(Virq.CON_RING)
    assert ours.pending


@pytest.mark.parametrize("virq", [-1, 24, Virq.TIMER, Virq.ARGO])
def test_only_global_virqs_have_a_handler(xen: Xen, virq: int) -> None:
    with refused(errno.EINVAL):
        xen.set_virq_handler(virq, xen.create())


def test_from_xen_4_21_a_handler_that_has_bound_the_virq_is_not_replaced() -> None:
    xen = Xen((4, 21), MAX_CHANNELS["fifo"], Xsm())
    dom0, guest, other = xen.domains[0], xen.create(), xen.create()
    port = dom0.bind_virq(Virq.DOM_EXC)
    with refused(errno.EBUSY):
        xen.set_virq_handler(Virq.DOM_EXC, guest)
    xen.set_virq_handler(Virq.DOM_EXC, dom0)
    dom0.close(port)
    xen.set_virq_handler(Virq.DOM_EXC, guest)
    assert guest.bind_virq(Virq.DOM_EXC)
    for others in (dom0, other):
        with refused(errno.EBUSY):
            others.bind_virq(Virq.DOM_EXC)

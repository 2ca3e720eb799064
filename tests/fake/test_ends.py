"""How domains end: destroyed, shut down or crashed.

The results were seen on real machines: Xen 4.17, dom0 and PV guests of Linux 6.1.
"""

import errno
import select
from collections.abc import Callable, Iterator

import pytest

from pyxenevtchn import DOMID_SELF, EventChannel, Virq
from pyxenevtchn.fake import Domain, Hypervisor, State

from ..concurrency import threads, until_asleep
from .helpers import connect, refused


@pytest.fixture
def deaths(xen: Hypervisor) -> Iterator[Callable[[], int]]:
    """Returns the number of VIRQ_DOM_EXC in dom0 since the last call."""
    with xen.dom0.open() as channel:
        channel.bind_virq(Virq.DOM_EXC)

        yield lambda: count_events(channel)


def count_events(channel: EventChannel) -> int:
    """Read and unmask events until there are no more; return their number."""
    count = 0
    while ports := channel.wait(0):
        count += len(ports)
        channel.unmask(ports)
    return count


@pytest.mark.parametrize(
    ("end", "heard"),
    [
        (Domain.destroy, 2),
        (Domain.shutdown, 3),
        (Domain.crash, 3),
        (Domain.save, 3),
        (Domain.checkpoint, 1),
        (Domain.pause, 0),
    ],
)
def test_dom0_gets_as_many_virqs_as_on_a_real_machine(
    end: Callable[[Domain], None], heard: int
) -> None:
    by_hand = Hypervisor(delivery="manual")
    with by_hand.dom0.open() as channel:
        channel.bind_virq(Virq.DOM_EXC)
        end(by_hand.create_domain())
        count = 0
        for _ in range(4):
            by_hand.deliver()
            ports = channel.wait(0)
            count += len(ports)
            channel.unmask(ports)
        assert count == heard
    # All at once: the events that come while the port is masked merge.
    at_once = Hypervisor()
    with at_once.dom0.open() as channel:
        channel.bind_virq(Virq.DOM_EXC)
        end(at_once.create_domain())
        assert count_events(channel) == min(heard, 2)


@pytest.mark.parametrize("end", [Domain.destroy, Domain.shutdown, Domain.crash, Domain.save])
def test_the_other_ends_become_unbound_and_get_no_event(
    xen: Hypervisor, guest: Domain, end: Callable[[Domain], None]
) -> None:
    domid = guest.domid
    with xen.dom0.open() as backend, guest.open() as frontend:
        near, far = connect(backend, 0, frontend, domid)
        frontend.unmask(far)
        end(guest)
        assert backend.wait(0) == []
        backend.notify(near)
        with pytest.raises(ProcessLookupError):
            backend.bind_interdomain(domid, far)
        port = next(port for port in xen.ports(0) if port.port == near)
        assert (port.state, port.remote_domid) == ("unbound", domid)
    xen.check_clean()


@pytest.mark.parametrize(
    ("end", "how"),
    [(Domain.destroy, "destroyed"), (Domain.shutdown, "shut down"), (Domain.crash, "crashed")],
)
def test_calls_after_the_end_of_the_domain_fail_with_enodev(
    guest: Domain, end: Callable[[Domain], None], how: str
) -> None:
    with guest.open() as channel:
        channel.bind_virq(Virq.DEBUG)
        end(guest)
        assert channel.poll(0) == select.POLLERR
        with refused(errno.ENODEV) as caught:
            channel.notify(9)
        assert caught.value.__notes__ == ["this domain of the fake no longer exists"]
    assert repr(guest) == f"<Domain 1 {how}>"


def test_a_crashed_domain_that_is_preserved_stays_connected(
    xen: Hypervisor, guest: Domain, deaths: Callable[[], int]
) -> None:
    with xen.dom0.open() as backend, guest.open() as frontend:
        near, far = connect(backend, 0, frontend, guest.domid)
        theirs = frontend.bind_unbound_port(0)
        guest.crash(preserve=True)
        assert deaths() == 1
        backend.notify(near)
        assert backend.bind_interdomain(guest.domid, theirs)
        with refused(errno.EINVAL):
            backend.bind_interdomain(guest.domid, far)
        with refused(errno.ENODEV):
            frontend.notify(far)
        assert {far, theirs} <= {port.port for port in xen.ports(guest.domid)}
        with pytest.raises(ValueError, match="<Domain 1 crashed> does not run"):
            guest.shutdown()
        guest.destroy()
        assert deaths() == 2
        with pytest.raises(ProcessLookupError):
            backend.bind_interdomain(guest.domid, theirs)


def test_with_manual_delivery_each_step_of_an_end_takes_a_delivery() -> None:
    xen = Hypervisor(delivery="manual")
    guest = xen.create_domain()
    with xen.dom0.open() as channel, guest.open() as frontend:
        channel.bind_virq(Virq.DOM_EXC)
        theirs = frontend.bind_unbound_port(0)
        near = channel.bind_unbound_port(guest.domid)
        far = frontend.bind_interdomain(0, near)
        guest.shutdown()
        heard = []
        states = []
        for _ in range(5):
            heard.append(xen.deliver())
            channel.unmask(channel.wait(0))
            port = next(port for port in xen.ports(0) if port.port == near)
            with pytest.raises(OSError, match="bind_interdomain") as caught:
                channel.bind_interdomain(guest.domid, far)
            states.append((str(port.state), caught.value.errno))
        # Shut down, dead, freed.
        assert heard == [1, 1, 1, 0, 0]
        assert states == [("unbound", errno.EINVAL)] + [("unbound", errno.ESRCH)] * 4
        assert theirs


@pytest.mark.parametrize(
    "call",
    [
        *(Domain.pause, Domain.unpause, Domain.checkpoint, Domain.save),
        *(Domain.shutdown, Domain.crash, Domain.destroy),
    ],
)
def test_dom0_cannot_be_paused_saved_or_ended(
    xen: Hypervisor, call: Callable[[Domain], None]
) -> None:
    with pytest.raises(ValueError, match="dom0 cannot be "):
        call(xen.dom0)


def test_with_manual_delivery_a_destroyed_domain_is_dying_until_the_next_one() -> None:
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
        # A new domain with the same domid can connect.
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
def test_every_call_in_a_destroyed_domain_fails_with_enodev(
    call: Callable[[EventChannel], object],
) -> None:
    xen = Hypervisor()
    guest = xen.create_domain()
    with guest.open() as channel:
        channel.bind_virq(Virq.DEBUG)
        guest.destroy()
        assert channel.poll(0) == select.POLLERR
        with refused(errno.ENODEV) as caught:
            call(channel)
        assert caught.value.__notes__ == ["this domain of the fake no longer exists"]
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
def test_destroying_a_domain_wakes_its_waiters(nonblocking: bool) -> None:
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

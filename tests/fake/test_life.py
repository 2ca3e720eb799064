"""Domains that are saved, restored, shut down and destroyed, or crash; and what is a kernel bug.

What is expected was seen on real machines: Xen 4.17, dom0 and PV guests of Linux 6.1.
"""

import errno
import select
from collections.abc import Callable, Iterator

import pytest

from pyxenevtchn import DOMID_SELF, EventChannel, Request, Virq
from pyxenevtchn.fake import Domain, FakeDevice, Hypervisor, KernelBug

from .model.test_xen import refused
from .test_hypervisor import connect


@pytest.fixture
def deaths(xen: Hypervisor) -> Iterator[Callable[[], int]]:
    """How often dom0 has heard of VIRQ_DOM_EXC since the last time."""
    with xen.dom0.open() as channel:
        channel.bind_virq(Virq.DOM_EXC)

        yield lambda: count_events(channel)


def count_events(channel: EventChannel) -> int:
    """Take events, each port's after the other, until there are no more."""
    count = 0
    while ports := channel.wait(0):
        count += len(ports)
        channel.unmask(ports)
    return count


def release(device: FakeDevice) -> None:
    """Close a device whose process a real kernel would have killed."""
    with pytest.raises(KernelBug):
        device.close()


# The end.


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
def test_dom0_hears_as_often_as_on_a_real_machine(
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
    # Where it is all at once, those that come while the port is masked are one, as ever.
    at_once = Hypervisor()
    with at_once.dom0.open() as channel:
        channel.bind_virq(Virq.DOM_EXC)
        end(at_once.create_domain())
        assert count_events(channel) == min(heard, 2)


@pytest.mark.parametrize("end", [Domain.destroy, Domain.shutdown, Domain.crash, Domain.save])
def test_the_other_ends_become_unbound_and_hear_nothing(
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
def test_the_handles_say_that_their_domain_is_no_more(
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


def test_by_hand_an_end_takes_a_delivery_for_each_of_its_steps() -> None:
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
        # Shut down, dead, gone.
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
def test_dom0_has_no_such_life(xen: Hypervisor, call: Callable[[Domain], None]) -> None:
    with pytest.raises(ValueError, match="dom0 cannot be "):
        call(xen.dom0)


# Save and restore.


def test_a_domain_is_restored_with_another_domid(xen: Hypervisor, guest: Domain) -> None:
    first = xen.ports(guest.domid)
    guest.save()
    assert repr(guest) == "<Domain 1 saved>"
    with pytest.raises(LookupError):
        xen.domain(1)
    with pytest.raises(ValueError, match="<Domain 1 saved> does not run"):
        guest.save()
    guest.restore()
    assert guest.domid == 2
    assert xen.domain(2) is guest
    assert xen.ports(2) == first
    with pytest.raises(ValueError, match="<Domain 2> was not saved"):
        guest.restore()
    daemons = {port.daemon for port in xen.ports(0) if port.remote_domid == 2}
    assert daemons == {"xenstored", "xenconsoled"}
    with guest.open() as channel, xen.dom0.open() as backend:
        connect(channel, 2, backend, 0)
    xen.check_clean()


def test_the_limit_of_ports_is_restored_too(xen: Hypervisor) -> None:
    guest = xen.create_domain(max_ports=8)
    guest.save()
    guest.restore()
    with guest.open() as channel:
        assert channel.bind_unbound_port(0) == 8
        with refused(errno.ENOSPC):
            channel.bind_unbound_port(0)


def test_a_call_while_the_domain_is_saved_is_an_error(guest: Domain) -> None:
    with guest.open() as channel:
        channel.bind_virq(Virq.DEBUG)
        guest.save()
        with pytest.raises(ValueError, match="domain 1 is saved: its processes do not run"):
            channel.read()
        with pytest.raises(ValueError, match="is saved"):
            guest.open()


def test_a_checkpoint_and_a_pause_leave_everything(xen: Hypervisor, guest: Domain) -> None:
    with xen.dom0.open() as backend, guest.open() as frontend:
        near, far = connect(backend, 0, frontend, guest.domid)
        for ports in (backend.wait(0), frontend.wait(0)):
            assert ports == ([far] if ports else [])
        frontend.unmask(far)
        guest.checkpoint()
        assert (backend.wait(0), frontend.wait(0)) == ([], [])
        backend.notify(near)
        assert frontend.wait(0) == [far]
        frontend.notify(far)
        assert backend.wait(0) == [near]


def test_what_is_in_the_ring_is_read_after_a_restore_and_what_was_masked_is_lost(
    xen: Hypervisor, guest: Domain
) -> None:
    device = guest.device()
    ready, masked = (device.ioctl(Request.BIND_VIRQ, virq) for virq in (Virq.DEBUG, Virq.ARGO))
    xen.raise_virq(Virq.ARGO, guest)
    assert len(device.read(4096)) == 4
    xen.raise_virq(Virq.ARGO, guest)
    xen.raise_virq(Virq.DEBUG, guest)
    guest.save()
    guest.restore()
    assert device.read(4096) == ready.to_bytes(4, "little")
    device.write(masked.to_bytes(4, "little"))
    xen.raise_virq(Virq.DEBUG, guest)
    with refused(errno.EAGAIN):
        device.read(4096)
    release(device)


def test_a_restored_handle_is_silent_and_says_that_all_is_well(
    xen: Hypervisor, guest: Domain
) -> None:
    device = guest.device()
    with xen.dom0.open() as backend:
        near = backend.bind_unbound_port(guest.domid)
        far = device.ioctl(Request.BIND_INTERDOMAIN, 0, near)
        device.read(4096)
        guest.save()
        guest.restore()
        backend.notify(near)
        assert device.ioctl(Request.NOTIFY, far) == 0
        assert device.write(far.to_bytes(4, "little")) == 4
        assert backend.wait(0) == []
        with refused(errno.EAGAIN):
            device.read(4096)
    release(device)


@pytest.mark.parametrize("how", ["unbind", "close"])
def test_letting_a_stale_port_go_is_a_kernel_bug(guest: Domain, how: str) -> None:
    device = guest.device()
    port = device.ioctl(Request.BIND_UNBOUND_PORT, 0)
    guest.save()
    guest.restore()
    if how == "unbind":
        with pytest.raises(KernelBug, match=rf"BUG_ON\(irq < 0\).*port {port}"):
            device.ioctl(Request.UNBIND, port)
    with pytest.raises(KernelBug, match=rf"BUG_ON\(irq < 0\).*port {port}"):
        device.close()


def test_a_handle_without_ports_is_closed_as_ever(xen: Hypervisor, guest: Domain) -> None:
    with guest.open() as channel:
        channel.unbind(channel.bind_unbound_port(0))
        guest.save()
        guest.restore()
        assert channel.bind_unbound_port(0)
    xen.check_clean()


def test_a_stale_number_that_was_given_again_is_torn_from_its_new_owner(
    xen: Hypervisor, guest: Domain
) -> None:
    stale = guest.device()
    port = stale.ioctl(Request.BIND_UNBOUND_PORT, 0)
    guest.save()
    guest.restore()
    with xen.dom0.open() as backend:
        new = guest.device()
        assert new.ioctl(Request.BIND_UNBOUND_PORT, 0) == port
        near = backend.bind_interdomain(guest.domid, port)
        backend.wait(0)
        backend.unmask(near)
        # It kicks the new owner's peer.
        stale.ioctl(Request.NOTIFY, port)
        assert backend.wait(0) == [near]
        assert stale.ioctl(Request.UNBIND, port) == 0
        with refused(errno.EINVAL):
            backend.bind_interdomain(guest.domid, port)
        stale.close()
        release(new)


def test_a_stale_number_that_the_kernel_has_now_is_a_kernel_bug() -> None:
    xen = Hypervisor(linux=(6, 12))
    # In the kernel's way, once.
    guest = xen.create_domain(static={3: (xen.dom0, 100)})
    device = guest.device()
    device.ioctl(Request.BIND_STATIC, 3)
    guest.save()
    guest.restore()
    assert xen.ports(guest.domid)[2].kernel
    with pytest.raises(KernelBug, match="port 3 is held by the kernel itself since the domain was"):
        device.ioctl(Request.UNBIND, 3)
    release(device)


def test_a_bind_that_meets_a_stale_number_makes_the_driver_forget_them_all(
    guest: Domain,
) -> None:
    device = guest.device()
    first, second = (device.ioctl(Request.BIND_UNBOUND_PORT, 0) for _ in range(2))
    guest.save()
    guest.restore()
    with refused(errno.EEXIST):
        device.ioctl(Request.BIND_UNBOUND_PORT, 0)
    for port in (first, second):
        with refused(errno.ENOTCONN):
            device.ioctl(Request.NOTIFY, port)
    assert device.ioctl(Request.BIND_UNBOUND_PORT, 0) == first
    device.close()


def test_a_stale_handle_binds_while_the_numbers_are_others(guest: Domain) -> None:
    device = guest.device()
    low = device.ioctl(Request.BIND_UNBOUND_PORT, 0)
    high = device.ioctl(Request.BIND_UNBOUND_PORT, 0)
    device.ioctl(Request.UNBIND, low)
    guest.save()
    guest.restore()
    assert device.ioctl(Request.BIND_VIRQ, Virq.DEBUG) == low
    with refused(errno.EEXIST):
        device.ioctl(Request.BIND_VIRQ, Virq.ARGO)
    # Now the port that works is forgotten as well, and its interrupt goes on to nowhere.
    with pytest.raises(KernelBug, match=rf"evtchn_release: .* \[{low}\]"):
        device.close()
    assert high


def test_a_wait_is_never_woken_by_a_restore(guest: Domain) -> None:
    device = guest.device()
    device.ioctl(Request.BIND_VIRQ, Virq.DEBUG)
    guest.save()
    guest.restore()
    assert select.select([device], [], [], 0)[0] == []
    release(device)


@pytest.mark.parametrize("delivery", ["manual", "shuffled"])
def test_events_that_wait_are_lost_with_a_save(delivery: str) -> None:
    xen = Hypervisor(delivery="manual" if delivery == "manual" else "shuffled")
    guest = xen.create_domain()
    device = guest.device()
    near = device.ioctl(Request.BIND_UNBOUND_PORT, DOMID_SELF)
    device.ioctl(Request.BIND_INTERDOMAIN, DOMID_SELF, near)
    guest.save()
    guest.restore()
    xen.deliver()
    with guest.open() as channel:
        assert channel.bind_virq(Virq.DEBUG)
        xen.raise_virq(Virq.DEBUG, guest)
        xen.deliver()
        assert len(channel.wait(0)) == 1
    release(device)


# Hearing of it.


def test_who_listens_hears_of_a_restore_and_of_a_checkpoint_alone(
    xen: Hypervisor, guest: Domain
) -> None:
    other = xen.create_domain()
    with guest.resumes() as resumes, other.resumes() as others:
        guest.pause()
        guest.unpause()
        guest.save()
        assert not resumes.wait(0)
        guest.restore()
        assert resumes.wait(0)
        guest.checkpoint()
        assert resumes.wait(0)
        guest.destroy()
        assert not resumes.wait(0)
        assert not others.wait(0)

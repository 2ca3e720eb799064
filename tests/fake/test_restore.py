"""Domains that are saved and restored: what becomes of their handles, and what is a kernel bug.

The results were seen on real machines: Xen 4.17, dom0 and PV guests of Linux 6.1.
"""

import errno
import select

import pytest

from pyxenevtchn import DOMID_SELF, Request, Virq
from pyxenevtchn.fake import Domain, FakeDevice, Hypervisor, KernelBug

from .helpers import connect, refused


def release(device: FakeDevice) -> None:
    """Close a device, where a real kernel would crash."""
    with pytest.raises(KernelBug):
        device.close()


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


def test_a_checkpoint_changes_nothing(xen: Hypervisor, guest: Domain) -> None:
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


def test_a_restore_keeps_the_ring_and_loses_masked_events(xen: Hypervisor, guest: Domain) -> None:
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


def test_calls_of_a_restored_handle_succeed_without_effect(xen: Hypervisor, guest: Domain) -> None:
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
def test_unbinding_a_stale_port_is_a_kernel_bug(guest: Domain, how: str) -> None:
    device = guest.device()
    port = device.ioctl(Request.BIND_UNBOUND_PORT, 0)
    guest.save()
    guest.restore()
    if how == "unbind":
        with pytest.raises(KernelBug, match=rf"BUG_ON\(irq < 0\).*port {port}"):
            device.ioctl(Request.UNBIND, port)
    with pytest.raises(KernelBug, match=rf"BUG_ON\(irq < 0\).*port {port}"):
        device.close()


def test_a_handle_without_ports_survives_a_restore(xen: Hypervisor, guest: Domain) -> None:
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
        # This notifies the new owner's peer.
        stale.ioctl(Request.NOTIFY, port)
        assert backend.wait(0) == [near]
        assert stale.ioctl(Request.UNBIND, port) == 0
        with refused(errno.EINVAL):
            backend.bind_interdomain(guest.domid, port)
        stale.close()
        release(new)


def test_a_stale_number_that_the_kernel_has_now_is_a_kernel_bug() -> None:
    xen = Hypervisor(linux=(6, 12))
    # A number that the kernel takes after the restore.
    guest = xen.create_domain(static={3: (xen.dom0, 100)})
    device = guest.device()
    device.ioctl(Request.BIND_STATIC, 3)
    guest.save()
    guest.restore()
    assert xen.ports(guest.domid)[2].kernel
    with pytest.raises(KernelBug, match="port 3 is held by the kernel itself since the domain was"):
        device.ioctl(Request.UNBIND, 3)
    release(device)


def test_a_bind_that_gets_a_stale_number_makes_the_driver_forget_all_ports(
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


def test_a_stale_handle_binds_a_number_that_it_does_not_have(guest: Domain) -> None:
    device = guest.device()
    low = device.ioctl(Request.BIND_UNBOUND_PORT, 0)
    high = device.ioctl(Request.BIND_UNBOUND_PORT, 0)
    device.ioctl(Request.UNBIND, low)
    guest.save()
    guest.restore()
    assert device.ioctl(Request.BIND_VIRQ, Virq.DEBUG) == low
    with refused(errno.EEXIST):
        device.ioctl(Request.BIND_VIRQ, Virq.ARGO)
    # Now the driver has forgotten the port that works too, and its interrupt goes nowhere.
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


def test_only_a_restore_and_a_checkpoint_are_resumes(xen: Hypervisor, guest: Domain) -> None:
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

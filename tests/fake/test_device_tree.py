"""Static channels, as Xen creates them for a device tree."""

import errno

from pyxenevtchn.fake import Hypervisor

from .helpers import refused


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

"""Xen's policies: who may connect to whom."""

import errno

from pyxenevtchn.fake import Hypervisor, Xsm

from .helpers import connect, refused


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


def test_a_custom_policy_refuses_with_its_own_errno() -> None:
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

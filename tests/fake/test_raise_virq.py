"""VIRQs: in which domain they are raised, and who handles the global ones."""

import errno

import pytest

from pyxenevtchn import Virq
from pyxenevtchn.fake import Hypervisor

from .helpers import refused


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
def test_other_virqs_are_raised_in_the_given_domain(virq: Virq) -> None:
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


def test_from_xen_4_21_a_global_virq_binds_only_in_dom0() -> None:
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

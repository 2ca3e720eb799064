"""Xen's security modules (XSM): which domains may connect to each other.

::

    class OnlyDom0(Xsm):
        def evtchn_interdomain(self, domid, remote_domid):
            if 0 not in {domid, remote_domid}:
                raise PermissionError(errno.EACCES, "Permission denied")

    Hypervisor(xsm=OnlyDom0())

A real hypervisor that was built with FLASK has its own policy: that refuses with EACCES, and with
EPERM a port for a domain that does not exist (flask_evtchn_unbound in xsm/flask/hooks.c).
"""

import errno

from .failure import fail


class Xsm:
    """Xen's default, "dummy": every domain may connect to every other (include/xsm/dummy.h).

    A subclass refuses by raising an OSError, with which the hypercall then fails. It is asked
    after all other checks, and for dom0's daemons too.
    """

    def evtchn_unbound(self, domid: int, remote_domid: int, *, exists: bool) -> None:
        """Allow a domain to allocate a port for another.

        Args:
            domid: the domain.
            remote_domid: the domain that could then connect.
            exists: whether the remote domain exists.
        """

    def evtchn_interdomain(self, domid: int, remote_domid: int) -> None:
        """Allow a domain to connect a new port to a port of another."""


class Silo(Xsm):
    """Policy "silo": domains connect only to dom0 and to themselves (xsm/silo.c)."""

    def evtchn_unbound(self, domid: int, remote_domid: int, *, exists: bool) -> None:
        """Allow or refuse: ESRCH, EPERM (silo_evtchn_unbound)."""
        if not exists:
            fail(errno.ESRCH)
        self.evtchn_interdomain(domid, remote_domid)

    def evtchn_interdomain(self, domid: int, remote_domid: int) -> None:
        """Allow or refuse: EPERM (silo_evtchn_interdomain)."""
        if domid != remote_domid and 0 not in {domid, remote_domid}:
            fail(errno.EPERM)


MODULES: dict[str, type[Xsm]] = {"dummy": Xsm, "silo": Silo}
"""The policies that have a name."""

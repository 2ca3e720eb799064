"""Xen's security modules (XSM): which domains may connect with each other.

::

    class NobodyButDom0(Xsm):
        def evtchn_interdomain(self, domid, remote_domid):
            if 0 not in {domid, remote_domid}:
                raise PermissionError(errno.EACCES, "Permission denied")

    Hypervisor(xsm=NobodyButDom0())

A real hypervisor has a policy of its own where it was built with FLASK: that refuses with EACCES,
and a port for a domain that does not exist with EPERM (flask_evtchn_unbound in xsm/flask/hooks.c).
"""

import errno

from .failure import fail


class Xsm:
    """Xen's default, "dummy": every domain may connect with every other (include/xsm/dummy.h).

    Subclasses refuse, by an OSError that the hypercall then fails with. They are asked after
    everything else was found to be right, and for dom0's daemons too.
    """

    def evtchn_unbound(self, domid: int, remote_domid: int, *, exists: bool) -> None:
        """Let a domain allocate a port for another.

        Args:
            domid: the domain.
            remote_domid: the one that could then connect.
            exists: whether that exists.
        """

    def evtchn_interdomain(self, domid: int, remote_domid: int) -> None:
        """Let a domain connect a new port to one of another's."""


class Silo(Xsm):
    """Domains connect with dom0 and with themselves alone (xsm/silo.c): "silo"."""

    def evtchn_unbound(self, domid: int, remote_domid: int, *, exists: bool) -> None:
        """Let a domain allocate a port for another: ESRCH, EPERM (silo_evtchn_unbound)."""
        if not exists:
            fail(errno.ESRCH)
        self.evtchn_interdomain(domid, remote_domid)

    def evtchn_interdomain(self, domid: int, remote_domid: int) -> None:
        """Let a domain connect to another: EPERM (silo_evtchn_interdomain)."""
        if domid != remote_domid and 0 not in {domid, remote_domid}:
            fail(errno.EPERM)


MODULES: dict[str, type[Xsm]] = {"dummy": Xsm, "silo": Silo}
"""Those that have a name."""

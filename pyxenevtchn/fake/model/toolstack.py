"""What dom0's toolstack does with event channels: its daemons' ends of every domain's.

Pure: no descriptor, no thread, no I/O.
"""

from ...ports import State
from .linux import Kernel
from .xen import XenDomain

# The daemons that a domain's first ports are for, in this order (libxl's libxl_create.c and
# libxl_dom.c). A daemon connects when the domain is introduced to it.
_DAEMONS = ("xenstored", "xenconsoled")


class Toolstack:
    """xenstored and xenconsoled, each a process of dom0.

    Args:
        dom0: dom0's kernel, which has allocated a port for xenstored.
    """

    def __init__(self, dom0: Kernel) -> None:
        self._dom0 = dom0
        self._ports: dict[XenDomain, list[int]] = {}
        self.introduce(dom0.domain)

    def introduce(self, domain: XenDomain) -> None:
        """Connect the daemons to the ports that a domain has for them."""
        for_dom0 = [
            port
            for port, evtchn in domain.ports.items()
            if evtchn.state == State.UNBOUND and evtchn.remote_domid == 0
        ]
        self._ports[domain] = [
            self._connect(name, domain.domid, port)
            for name, port in zip(_DAEMONS, for_dom0, strict=False)
        ]

    def release(self, domain: XenDomain) -> None:
        """Close the daemons' ends of a domain that has ended."""
        for port in self._ports.pop(domain):
            del self._dom0.own_ports[port]
            self._dom0.domain.close(port)

    def _connect(self, name: str, domid: int, remote_port: int) -> int:
        port = self._dom0.domain.bind_interdomain(domid, remote_port)
        self._dom0.hold_own(port, name)
        return port

"""A Xen for machines without one: domains, their event channels, and devices to use them with.

::

    xen = Hypervisor()
    domain = xen.create_domain()
    with xen.dom0.open() as backend, domain.open() as frontend:
        port = backend.bind_unbound_port(domain.domid)
        frontend.bind_interdomain(0, port)

The models answer as Xen and the Linux driver do, with the same errnos. Only a fake has
``Domain.fail_next``, ``Domain.destroy``, ``Hypervisor.raise_virq``, ``.deliver``, ``.ports`` and
``.check_clean``. ``EventChannel.open("fake:")`` opens a handle on ``default()``.

``EventChannel.open("fake:unix:PATH")`` opens one on the hypervisor that ``xenevtchn fake serve
--socket PATH`` runs for many processes; ``server.remote.RemoteHypervisor`` controls that one.
"""

from ..ports import Port, State
from .device import FakeDevice
from .domain import Domain
from .hypervisor import Hypervisor
from .model.failure import KernelBug
from .model.xsm import Xsm
from .names import default, open_named, reset_default

__all__ = [
    "Domain",
    "FakeDevice",
    "Hypervisor",
    "KernelBug",
    "Port",
    "State",
    "Xsm",
    "default",
    "open_named",
    "reset_default",
]

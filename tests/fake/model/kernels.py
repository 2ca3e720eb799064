"""A kernel and an open file for tests of the driver's model."""

import select
from random import Random

from pyxenevtchn import DOMID_SELF, Request
from pyxenevtchn.abi import unpack_ports
from pyxenevtchn.fake.model.configuration import Abi, Configuration, Delivery
from pyxenevtchn.fake.model.driver import PAGE_BYTES, OpenFile
from pyxenevtchn.fake.model.linux import Kernel
from pyxenevtchn.fake.model.xen import Xen
from pyxenevtchn.fake.model.xsm import Xsm


def boot(
    linux: tuple[int, int] = (6, 12), abi: Abi = "fifo", delivery: Delivery = "immediate"
) -> Kernel:
    """Boot a dom0."""
    configuration = Configuration(linux=linux, abi=abi, delivery=delivery)
    xen = Xen((4, 17), configuration.max_channels, Xsm())
    return Kernel(xen.domains[0], configuration, Random(0))  # noqa: S311 - no secret


class File(OpenFile):
    """An open file that records the arguments of ``on_poll``."""

    def __init__(self, kernel: Kernel) -> None:
        self.shown: list[int] = []
        super().__init__(kernel, self.shown.append)

    def events(self) -> list[int]:
        """Read every event, if poll reports any."""
        return unpack_ports(self.read(PAGE_BYTES)) if self.poll() == select.POLLIN else []

    def connect(self) -> tuple[int, int]:
        """Connect two ports of this file: one that sends, and one that has its first event."""
        sender = self.ioctl(Request.BIND_UNBOUND_PORT, DOMID_SELF)
        return sender, self.ioctl(Request.BIND_INTERDOMAIN, DOMID_SELF, sender)

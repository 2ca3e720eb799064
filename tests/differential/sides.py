"""A domain, an open file and a descriptor, each on both sides: the machine's and the fake's.

Each call is made on both sides, and the answers are compared.
"""

import contextlib
import errno
import os
import select
from collections.abc import Callable
from dataclasses import dataclass, field

from pyxenevtchn import Request
from pyxenevtchn.abi import pack_ports, unpack_ports
from pyxenevtchn.fake import Domain, Hypervisor
from pyxenevtchn.fake.descriptor import PollDescriptor
from pyxenevtchn.fake.model.driver import OpenFile

from .machines import Reference


def same(real: object, fake: object) -> object:
    """Compare two answers; return the answer."""
    assert real == fake, f"the driver answered {real}, the fake {fake}"
    return real


def outcome(call: Callable[[], object]) -> object:
    """Return a call's result, or the name of its errno."""
    try:
        return call()
    except OSError as error:
        return errno.errorcode[error.errno or 0]


@dataclass(eq=False)
class Twin:
    """A domain on both sides; ports are named by their real numbers.

    Attributes:
        real: the machine's domain.
        fake: the fake's domain.
        fakes: the fake's number of each port that was ever bound, by the real number.
        reals: the real number, by the fake's.
    """

    real: Reference
    fake: Domain
    fakes: dict[int, int] = field(default_factory=dict)
    reals: dict[int, int] = field(default_factory=dict)

    def open(self) -> "File":
        """Open a file."""
        descriptor = PollDescriptor(os.getpid())
        model = self.fake.open_file(descriptor.show)
        return File(Opened(self, descriptor, model), self.real.files.open())

    def settle(self) -> None:
        """Wait until the events that were sent to the real domain have arrived."""
        self.real.files.settle()


def twin_of(real: Reference, xen: Hypervisor) -> Twin:
    """Pair a real domain with a fake one like it."""
    domain = _domain_like(real, xen)
    # A kernel never forgets the highest port that it has seen: the fake's has seen one as high.
    kernel = domain._kernel  # noqa: SLF001
    kernel.nr_channels = max(kernel.nr_channels, real.channels)
    return Twin(real, domain)


def _domain_like(real: Reference, xen: Hypervisor) -> Domain:
    if real.domid == 0:
        return xen.dom0
    domain = xen.create_domain(real.domid)
    if real.free_ports is None:
        return domain
    # Processes in the real domain have ports that the fake one does not have.
    own = len(xen.ports(real.domid))
    domain.destroy()
    return xen.create_domain(real.domid, max_ports=own + real.free_ports)


@dataclass(eq=False)
class Opened:
    """An open file on both sides.

    Attributes:
        twin: its domain.
        descriptor: the fake's descriptor.
        model: the fake's open file.
        ports: its ports.
        descriptors: how many descriptors it has.
    """

    twin: Twin
    descriptor: PollDescriptor
    model: OpenFile
    ports: set[int] = field(default_factory=set)
    descriptors: int = 1


@dataclass(eq=False)
class File:
    """A descriptor of an open file, on both sides.

    Attributes:
        opened: the open file.
        fd: the real descriptor.
    """

    opened: Opened
    fd: int

    @property
    def twin(self) -> Twin:
        """Its domain."""
        return self.opened.twin

    def dup(self) -> "File":
        """Duplicate the descriptor."""
        self.opened.descriptors += 1
        return File(self.opened, self.twin.real.files.dup(self.fd))

    def close(self) -> None:
        """Close the descriptor."""
        self.twin.real.files.close(self.fd)
        self.opened.descriptors -= 1
        if not self.opened.descriptors:
            with contextlib.closing(self.opened.descriptor):
                self.opened.model.release()

    def give_up(self) -> None:
        """Close what is real of it, after the sides have differed."""
        self.twin.real.files.close(self.fd)
        self.opened.descriptor.close()

    def request(
        self, request: Request, *arguments: int, fake: tuple[int, ...] | None = None
    ) -> object:
        """Make a request; return its result, or the name of its errno.

        Args:
            request: the request.
            arguments: its arguments.
            fake: its arguments on the fake, if they are others.
        """
        return same(*self._ioctls(request, arguments, fake))

    def port_request(self, request: Request, port: int) -> object:
        """Make a request about a port."""
        return self.request(request, port, fake=(self.twin.fakes.get(port, port),))

    def bind(
        self, request: Request, *arguments: int, fake: tuple[int, ...] | None = None
    ) -> object:
        """Make a request that binds a port; return the real port, or the name of the errno."""
        real, found = self._ioctls(request, arguments, fake)
        if isinstance(real, int) and isinstance(found, int):
            # Both sides give their lowest free port: which ports correspond never changes.
            assert self.twin.fakes.setdefault(real, found) == found
            assert self.twin.reals.setdefault(found, real) == real
            self.opened.ports.add(real)
            return real
        return same(real, found)

    def bind_interdomain(self, domid: int, remote: Twin, port: int) -> object:
        """Connect to a port of a domain; return the real port, or the name of the errno."""
        theirs = remote.fakes.get(port, port)
        bound = self.bind(Request.BIND_INTERDOMAIN, domid, port, fake=(domid, theirs))
        self.twin.settle()
        return bound

    def read(self, size: int) -> tuple[object, object]:
        """Read; return the ports or the name of the errno, the machine's and the fake's."""
        real = outcome(lambda: self.twin.real.files.read(self.fd, size))
        reals = self.twin.reals
        fake = outcome(
            lambda: [reals.get(port, port) for port in unpack_ports(self.opened.model.read(size))]
        )
        return real, fake

    def write(self, ports: list[int], ragged: bytes = b"") -> object:
        """Write ports and bytes after them; return how many were taken, or the errno's name."""
        real = bytes(pack_ports(ports)) + ragged
        fake = bytes(pack_ports([self.twin.fakes.get(port, port) for port in ports])) + ragged
        taken = same(
            outcome(lambda: self.twin.real.files.write(self.fd, real.hex())),
            outcome(lambda: self.opened.model.write(memoryview(fake))),
        )
        self.twin.settle()
        return taken

    def poll(self) -> object:
        """Return what poll(2) reports of POLLIN and POLLERR."""
        # A fake's descriptor stays writable after an overflow, so POLLOUT is not asked for.
        poller = select.poll()
        poller.register(self.opened.descriptor, select.POLLIN)
        fake = dict(poller.poll(0)).get(self.opened.descriptor.fileno(), 0)
        return same(self.twin.real.files.poll(self.fd), fake)

    def _ioctls(
        self, request: Request, arguments: tuple[int, ...], fake: tuple[int, ...] | None
    ) -> tuple[object, object]:
        return (
            outcome(lambda: self.twin.real.files.ioctl(self.fd, request, *arguments)),
            outcome(lambda: self.opened.model.ioctl(request, *(fake or arguments))),
        )

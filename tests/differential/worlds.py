"""A machine, a real one as a rule, and a fake one, driven side by side."""

import contextlib
import errno
import os
import select
from collections.abc import Callable
from dataclasses import dataclass, field
from types import ModuleType

from pyxenevtchn import DOMID_FIRST_RESERVED, DOMID_IO, DOMID_SELF, Request, Virq
from pyxenevtchn.abi import DOMID_MAX, pack_ports, unpack_ports
from pyxenevtchn.fake import Domain, Hypervisor
from pyxenevtchn.fake.descriptor import PollDescriptor
from pyxenevtchn.fake.model.driver import OpenFile

from .machines import FREE_PORT, Machine, Reference

MAX_FILES = 5

# Ports that no file ever has: none at all, the kernel's, free ones, and out of range.
STRANGERS = (0, 1, 2, 1023, 1024, 5000, 131071, 131072, 2**32 - 1)
OUT_OF_RANGE = (131072, 2**32 - 1)
# 998 and 999 are no domain's; 1 is a guest's in some machines.
DOMIDS = (0, DOMID_SELF, 998, 999, DOMID_IO, 0xFFFF, 2**32 - 1)
OVER_16_BITS = tuple(0x10000 + domid for domid in (0, DOMID_SELF, 998, 999))
# Xen raises the console ring's by itself; 24 and above do not exist.
VIRQS = tuple(virq for virq in range(26) if virq != Virq.CON_RING)
RESTRICTIONS = (0, 1, 999, DOMID_FIRST_RESERVED - 1, DOMID_FIRST_RESERVED, 0xFFFF)
SIZES = (0, 1, 3, 4, 5, 7, 8, 12, 64, 4096, 5000, 8192)


@dataclass(eq=False)
class Twin:
    """A domain on either side; ports are named by their real numbers.

    Attributes:
        real: the machine's.
        fake: the fake's.
        fakes: the fake's number of each port that there has been.
        reals: the other way round.
    """

    real: Reference
    fake: Domain
    fakes: dict[int, int] = field(default_factory=dict)
    reals: dict[int, int] = field(default_factory=dict)


@dataclass(eq=False)
class Opened:
    """An open file on either side, whatever descriptors it has.

    Attributes:
        twin: its domain.
        descriptor: the fake's descriptor.
        model: what is behind that.
        ports: its ports.
    """

    twin: Twin
    descriptor: PollDescriptor
    model: OpenFile
    ports: set[int] = field(default_factory=set)
    descriptors: int = 1


@dataclass(eq=False)
class File:
    """A descriptor of an open file."""

    opened: Opened
    fd: int

    @property
    def twin(self) -> Twin:
        """Its domain."""
        return self.opened.twin


class Worlds:
    """Makes each step on both sides and compares what comes out.

    Args:
        machine: the machine.
        fake: the package of the fake.
    """

    def __init__(self, machine: Machine, fake: ModuleType) -> None:
        self._xen: Hypervisor = machine.fake(fake)
        self._two_level = machine.abi == "2l"
        self._twins = [Twin(real, self._domain_like(real)) for real in machine.domains]
        self._files: list[File] = []
        # Those that were connected with each other on purpose, both ways round.
        self._pairs: list[tuple[tuple[Opened, int], tuple[Opened, int]]] = []
        for twin in self._twins:
            # A kernel never forgets how high a port it has seen: the fake's has seen as high a one.
            kernel = twin.fake._kernel  # noqa: SLF001
            kernel.nr_channels = max(kernel.nr_channels, twin.real.channels)

    def close(self) -> None:
        """Close every file and check that the fake is clean."""
        while self._files:
            self._do_close(self._files[-1], 0, 0)
        self._xen.check_clean()

    def give_up(self) -> None:
        """Close every real file, and of the fake's what they poll by."""
        for file in self._files:
            file.twin.real.files.close(file.fd)
            file.opened.descriptor.close()

    def step(self, operation: str, a: int, b: int, c: int) -> str:
        """Make a step, chosen by name and numbers; return what it was.

        Raises:
            AssertionError: the two sides answered differently.
        """
        if not self._files:
            self._open(self._twins[0])
        index = a % len(self._files)
        file = self._files[index]
        shown: str = getattr(self, "_do_" + operation)(file, b, c)
        return f"file {index} of domain {file.twin.real.domid}: {shown}"

    # What takes many steps to come about by chance.

    def _do_connect(self, file: File, b: int, c: int) -> str:
        """Connect a new port of a file with a new one of another, and have the first event over."""
        other = self._files[b % len(self._files)]
        near = self._bind(file, Request.BIND_UNBOUND_PORT, other.twin.real.domid)
        if not isinstance(near, int):
            return f"connect: {near}"
        domid, theirs = file.twin.real.domid, file.twin.fakes[near]
        far = self._bind(other, Request.BIND_INTERDOMAIN, domid, near, fake=(domid, theirs))
        other.twin.real.files.settle()
        if not isinstance(far, int):
            return f"connect: {far}"
        ends = (file.opened, near), (other.opened, far)
        self._pairs += [ends, ends[::-1]]
        if c % 4:
            _same(*self._read(other, 4096))
            self._write(other, [far])
        return f"connect {near} with {far}"

    def _do_refill(self, file: File, b: int, _c: int) -> str:
        """Fill the ring with one port's events, each unmasked before it is read."""
        pairs = [ends for ends in self._pairs if ends[1][0] is file.opened]
        if not pairs:
            return "no refill"
        (opened, sender), (_, receiver) = pairs[b % len(pairs)]
        senders = [each for each in self._files if each.opened is opened]
        times = 60 + b % 10
        for _ in range(times if senders else 0):
            self._of_port(senders[0], Request.NOTIFY, sender)
            file.twin.real.files.settle()
            self._write(file, [receiver])
        return f"refill {receiver} {times} times"

    # Descriptors.

    def _do_open(self, _file: File, b: int, _c: int) -> str:
        if len(self._files) < MAX_FILES:
            self._open(self._twins[b % len(self._twins)])
        return "open"

    def _do_close(self, file: File, _b: int, _c: int) -> str:
        file.twin.real.files.close(file.fd)
        self._files.remove(file)
        self._close_fake(file)
        return "close"

    def _do_dup(self, file: File, _b: int, _c: int) -> str:
        if len(self._files) < MAX_FILES:
            self._files.append(File(file.opened, file.twin.real.files.dup(file.fd)))
            file.opened.descriptors += 1
        return "dup"

    # Requests.

    def _do_bind_virq(self, file: File, b: int, _c: int) -> str:
        virq = VIRQS[b % len(VIRQS)]
        return f"bind_virq({virq}) = {self._bind(file, Request.BIND_VIRQ, virq)}"

    def _do_bind_unbound_port(self, file: File, b: int, _c: int) -> str:
        domid = self._domids()[b % len(self._domids())]
        outcome = self._bind(file, Request.BIND_UNBOUND_PORT, domid)
        return f"bind_unbound_port({domid}) = {outcome}"

    def _do_bind_interdomain(self, file: File, b: int, c: int) -> str:
        # Mostly those that can succeed.
        likely = [*(twin.real.domid for twin in self._twins), DOMID_SELF]
        domid = self._domids()[b % len(self._domids())] if b % 4 == 0 else likely[b % len(likely)]
        remote = self._twin_of(file, domid)
        port = self._port(remote, c)
        theirs = remote.fakes.get(port, port)
        outcome = self._bind(file, Request.BIND_INTERDOMAIN, domid, port, fake=(domid, theirs))
        file.twin.real.files.settle()
        return f"bind_interdomain({domid}, {port}) = {outcome}"

    def _do_bind_many(self, file: File, b: int, _c: int) -> str:
        """Have about as many ports as the ring has room for, or as the domain can have."""
        more = max(63 + b % 4 - len(file.opened.ports), 0)
        outcomes = [self._bind(file, Request.BIND_UNBOUND_PORT, 999) for _ in range(more)]
        return f"bind_many({more}): {outcomes[-1:]}"

    def _do_unbind(self, file: File, b: int, _c: int) -> str:
        port = self._port(file.twin, b)
        outcome = self._of_port(file, Request.UNBIND, port)
        if outcome == 0:
            file.opened.ports.discard(port)
        return f"unbind({port}) = {outcome}"

    def _do_notify(self, file: File, b: int, _c: int) -> str:
        port = self._port(file.twin, b)
        outcome = self._of_port(file, Request.NOTIFY, port)
        self._settle()
        return f"notify({port}) = {outcome}"

    def _do_reset(self, file: File, _b: int, _c: int) -> str:
        return f"reset = {self._request(file, Request.RESET)}"

    def _do_restrict(self, file: File, b: int, _c: int) -> str:
        domid = RESTRICTIONS[b % len(RESTRICTIONS)]
        outcome = self._request(file, Request.RESTRICT_DOMID, domid)
        return f"restrict_domid({domid}) = {outcome}"

    def _do_bind_static(self, file: File, b: int, c: int) -> str:
        """Only where it is safe: a port of the file, one out of range, or the free one."""
        choices = [*OUT_OF_RANGE, *sorted(file.opened.ports)]
        of_domain = [each.opened for each in self._files if each.twin is file.twin]
        if not any(FREE_PORT in opened.ports for opened in of_domain):
            choices.append(FREE_PORT)
        port = choices[(b + c) % len(choices)]
        outcome = self._of_port(file, Request.BIND_STATIC, port)
        if outcome == 0:
            file.opened.ports.add(port)
        return f"bind_static({port}) = {outcome}"

    # Events.

    def _do_read(self, file: File, b: int, _c: int) -> str:
        size = SIZES[b % len(SIZES)]
        return f"read({size}) = {_same(*self._read(file, size))}"

    def _do_write(self, file: File, b: int, c: int) -> str:
        ports = [self._port(file.twin, number) for number in (b, c, b ^ c, b + c)][: 1 + c % 4]
        ragged = bytes(b % 4)
        outcome = self._write(file, ports, ragged)
        return f"write({ports} and {len(ragged)} bytes) = {outcome}"

    def _do_poll(self, file: File, _b: int, _c: int) -> str:
        def poll() -> int:
            # A fake's descriptor stays writable after an overflow, so that is not asked.
            poller = select.poll()
            poller.register(file.opened.descriptor, select.POLLIN)
            return dict(poller.poll(0)).get(file.opened.descriptor.fileno(), 0)

        return f"poll = {_same(file.twin.real.files.poll(file.fd), poll())}"

    def _do_churn(self, file: File, b: int, _c: int) -> str:
        """Leave stale entries in the ring, up to more than it holds."""
        for _ in range(b % 70):
            near = self._bind(file, Request.BIND_UNBOUND_PORT, DOMID_SELF)
            if not isinstance(near, int):
                break
            theirs = file.twin.fakes[near]
            far = self._bind(
                file, Request.BIND_INTERDOMAIN, DOMID_SELF, near, fake=(DOMID_SELF, theirs)
            )
            file.twin.real.files.settle()
            for port in (near, far):
                if isinstance(port, int):
                    _same(self._of_port(file, Request.UNBIND, port), 0)
                    file.opened.ports.discard(port)
        return f"churn {b % 70}"

    def _do_burst(self, _file: File, b: int, c: int) -> str:
        """Send events to a guest that is paused, so that its kernel finds them together."""
        guests = [twin for twin in self._twins if twin.real.guest]
        if not guests:
            return "no burst"
        twin = guests[b % len(guests)]
        theirs = [file for file in self._files if file.twin is twin]
        before = [self._read(file, 4096) for file in theirs]
        senders = [
            (file, port)
            for (opened, port), (remote, _) in self._pairs
            for file in self._files
            if remote.twin is twin and file.opened is opened and file.twin is not twin
        ]
        chosen = [senders[(c + b * each) % len(senders)] for each in range(6) if senders]
        assert twin.real.guest
        twin.real.guest.pause()
        twin.fake.pause()
        for file, port in chosen:
            self._of_port(file, Request.NOTIFY, port)
        twin.real.guest.unpause()
        twin.fake.unpause()
        self._settle()
        after = [self._read(file, 4096) for file in theirs]
        for real, fake in before:
            _same(real, fake)
        for real, fake in after:
            if self._two_level:
                # Where the kernel began is the affair of its own events as well.
                real, fake = _from_lowest(real), _from_lowest(fake)  # noqa: PLW2901
            _same(real, fake)
        return f"burst {[port for _, port in chosen]}: {[real for real, _ in after]}"

    # How.

    def _domain_like(self, real: Reference) -> Domain:
        if real.domid == 0:
            return self._xen.dom0
        domain = self._xen.create_domain(real.domid)
        if real.free_ports is None:
            return domain
        # The real one's processes have some ports that are not in the fake.
        own = len(self._xen.ports(real.domid))
        domain.destroy()
        return self._xen.create_domain(real.domid, max_ports=own + real.free_ports)

    def _open(self, twin: Twin) -> None:
        descriptor = PollDescriptor(os.getpid())
        model = twin.fake.open_file(descriptor.show)
        self._files.append(File(Opened(twin, descriptor, model), twin.real.files.open()))

    def _close_fake(self, file: File) -> None:
        file.opened.descriptors -= 1
        if not file.opened.descriptors:
            with contextlib.closing(file.opened.descriptor):
                file.opened.model.release()

    def _domids(self) -> list[int]:
        guests = [twin.real.domid for twin in self._twins[1:]]
        return [*DOMIDS, *OVER_16_BITS, *guests, *(0x10000 + domid for domid in guests)]

    def _twin_of(self, file: File, domid: int) -> Twin:
        """Return the domain that a domid means, or that of the file where it means none here."""
        cut = domid & DOMID_MAX
        return next((twin for twin in self._twins if twin.real.domid == cut), file.twin)

    def _port(self, twin: Twin, number: int) -> int:
        known = list(twin.fakes)
        if known and number % 8:
            return known[number // 8 % len(known)]
        return STRANGERS[number // 8 % len(STRANGERS)]

    def _settle(self) -> None:
        for twin in self._twins:
            twin.real.files.settle()

    def _write(self, file: File, ports: list[int], ragged: bytes = b"") -> object:
        real = bytes(pack_ports(ports)) + ragged
        fake = bytes(pack_ports([file.twin.fakes.get(port, port) for port in ports])) + ragged
        outcome = _same(
            _outcome(lambda: file.twin.real.files.write(file.fd, real.hex())),
            _outcome(lambda: file.opened.model.write(memoryview(fake))),
        )
        file.twin.real.files.settle()
        return outcome

    def _read(self, file: File, size: int) -> tuple[object, object]:
        """Read on both sides; return what came, or why nothing did."""
        real = _outcome(lambda: file.twin.real.files.read(file.fd, size))
        reals = file.twin.reals
        fake = _outcome(
            lambda: [reals.get(port, port) for port in unpack_ports(file.opened.model.read(size))]
        )
        return real, fake

    def _bind(
        self, file: File, request: Request, *arguments: int, fake: tuple[int, ...] | None = None
    ) -> object:
        """Bind on both sides; return the real port, or the errno where both failed alike."""
        real = _outcome(lambda: file.twin.real.files.ioctl(file.fd, request, *arguments))
        found = _outcome(lambda: file.opened.model.ioctl(request, *(fake or arguments)))
        if isinstance(real, int) and isinstance(found, int):
            # Both sides hand out their lowest free port: the correspondence never changes.
            assert file.twin.fakes.setdefault(real, found) == found
            assert file.twin.reals.setdefault(found, real) == real
            file.opened.ports.add(real)
            return real
        return _same(real, found)

    def _of_port(self, file: File, request: Request, port: int) -> object:
        """Make a request about a port."""
        return self._request(file, request, port, fake=(file.twin.fakes.get(port, port),))

    def _request(
        self, file: File, request: Request, *arguments: int, fake: tuple[int, ...] | None = None
    ) -> object:
        return _same(
            _outcome(lambda: file.twin.real.files.ioctl(file.fd, request, *arguments)),
            _outcome(lambda: file.opened.model.ioctl(request, *(fake or arguments))),
        )


def _same(real: object, fake: object) -> object:
    assert real == fake, f"the driver answered {real}, the fake {fake}"
    return real


def _from_lowest(read: object) -> object:
    """Turn what came to a 2-level kernel round so that its lowest port is the first."""
    if not isinstance(read, list) or not read:
        return read
    start = read.index(min(read))
    return read[start:] + read[:start]


def _outcome(call: Callable[[], object]) -> object:
    """Return what a call returned, or the name of its errno."""
    try:
        return call()
    except OSError as error:
        return errno.errorcode[error.errno or 0]

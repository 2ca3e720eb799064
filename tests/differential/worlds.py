"""Steps on a machine, a real one as a rule, and on a fake one, side by side."""

from types import ModuleType

from pyxenevtchn import DOMID_FIRST_RESERVED, DOMID_IO, DOMID_SELF, Request, Virq
from pyxenevtchn.abi import DOMID_MAX
from pyxenevtchn.fake import Hypervisor

from .machines import FREE_PORT, Machine
from .sides import File, Opened, Twin, same, twin_of

MAX_FILES = 5

# Ports that no file ever has: port 0, the kernel's, free ones, and out of range.
PORTS_OF_NO_FILE = (0, 1, 2, 1023, 1024, 5000, 131071, 131072, 2**32 - 1)
OUT_OF_RANGE = (131072, 2**32 - 1)
# No domain has 998 and 999; a guest has 1 on some machines.
DOMIDS = (0, DOMID_SELF, 998, 999, DOMID_IO, 0xFFFF, 2**32 - 1)
OVER_16_BITS = tuple(0x10000 + domid for domid in (0, DOMID_SELF, 998, 999))
# Xen raises CON_RING by itself; xenstored, if it runs, has DOM_EXC; 24 and above do not exist.
VIRQS = tuple(virq for virq in range(26) if virq not in {Virq.CON_RING, Virq.DOM_EXC})
RESTRICTIONS = (0, 1, 999, DOMID_FIRST_RESERVED - 1, DOMID_FIRST_RESERVED, 0xFFFF)
SIZES = (0, 1, 3, 4, 5, 7, 8, 12, 64, 4096, 5000, 8192)


class Worlds:
    """Makes each step on both sides and compares the answers.

    Args:
        machine: the machine.
        fake: the package of the fake.
    """

    def __init__(self, machine: Machine, fake: ModuleType) -> None:
        self._xen: Hypervisor = machine.fake(fake)
        self._two_level = machine.abi == "2l"
        self._twins = [twin_of(real, self._xen) for real in machine.domains]
        self._files: list[File] = []
        # The connections that _do_connect made, in both directions.
        self._pairs: list[tuple[tuple[Opened, int], tuple[Opened, int]]] = []

    def close(self) -> None:
        """Close every file and check that the fake is clean."""
        while self._files:
            self._files.pop().close()
        self._xen.check_clean()

    def give_up(self) -> None:
        """Close every real descriptor, after a step has shown a difference."""
        for file in self._files:
            file.give_up()

    def step(self, operation: str, a: int, b: int, c: int) -> str:
        """Make a step, chosen by its name and three numbers; return a description.

        Raises:
            AssertionError: the two sides answered differently.
        """
        if not self._files:
            self._files.append(self._twins[0].open())
        index = a % len(self._files)
        file = self._files[index]
        shown: str = getattr(self, "_do_" + operation)(file, b, c)
        return f"file {index} of domain {file.twin.real.domid}: {shown}"

    # Descriptors.

    def _do_open(self, _file: File, b: int, _c: int) -> str:
        if len(self._files) < MAX_FILES:
            self._files.append(self._twins[b % len(self._twins)].open())
        return "open"

    def _do_close(self, file: File, _b: int, _c: int) -> str:
        self._files.remove(file)
        file.close()
        return "close"

    def _do_dup(self, file: File, _b: int, _c: int) -> str:
        if len(self._files) < MAX_FILES:
            self._files.append(file.dup())
        return "dup"

    # Requests.

    def _do_bind_virq(self, file: File, b: int, _c: int) -> str:
        virq = VIRQS[b % len(VIRQS)]
        return f"bind_virq({virq}) = {file.bind(Request.BIND_VIRQ, virq)}"

    def _do_bind_unbound_port(self, file: File, b: int, _c: int) -> str:
        domid = self._domids()[b % len(self._domids())]
        outcome = file.bind(Request.BIND_UNBOUND_PORT, domid)
        return f"bind_unbound_port({domid}) = {outcome}"

    def _do_bind_interdomain(self, file: File, b: int, c: int) -> str:
        # Mostly with domids with which it can succeed.
        likely = [*(twin.real.domid for twin in self._twins), DOMID_SELF]
        domid = self._domids()[b % len(self._domids())] if b % 4 == 0 else likely[b % len(likely)]
        remote = self._twin_of(file, domid)
        port = self._port(remote, c)
        return f"bind_interdomain({domid}, {port}) = {file.bind_interdomain(domid, remote, port)}"

    def _do_unbind(self, file: File, b: int, _c: int) -> str:
        port = self._port(file.twin, b)
        outcome = file.port_request(Request.UNBIND, port)
        if outcome == 0:
            file.opened.ports.discard(port)
        return f"unbind({port}) = {outcome}"

    def _do_notify(self, file: File, b: int, _c: int) -> str:
        port = self._port(file.twin, b)
        outcome = file.port_request(Request.NOTIFY, port)
        self._settle()
        return f"notify({port}) = {outcome}"

    def _do_reset(self, file: File, _b: int, _c: int) -> str:
        return f"reset = {file.request(Request.RESET)}"

    def _do_restrict(self, file: File, b: int, _c: int) -> str:
        domid = RESTRICTIONS[b % len(RESTRICTIONS)]
        return f"restrict_domid({domid}) = {file.request(Request.RESTRICT_DOMID, domid)}"

    def _do_bind_static(self, file: File, b: int, c: int) -> str:
        """Use only ports that are safe: the file's own, ports out of range, and the free one."""
        choices = [*OUT_OF_RANGE, *sorted(file.opened.ports)]
        of_domain = [each.opened for each in self._files if each.twin is file.twin]
        if not any(FREE_PORT in opened.ports for opened in of_domain):
            choices.append(FREE_PORT)
        port = choices[(b + c) % len(choices)]
        outcome = file.port_request(Request.BIND_STATIC, port)
        if outcome == 0:
            file.opened.ports.add(port)
        return f"bind_static({port}) = {outcome}"

    # Events.

    def _do_read(self, file: File, b: int, _c: int) -> str:
        size = SIZES[b % len(SIZES)]
        return f"read({size}) = {same(*file.read(size))}"

    def _do_write(self, file: File, b: int, c: int) -> str:
        ports = [self._port(file.twin, number) for number in (b, c, b ^ c, b + c)][: 1 + c % 4]
        ragged = bytes(b % 4)
        return f"write({ports} and {len(ragged)} bytes) = {file.write(ports, ragged)}"

    def _do_poll(self, file: File, _b: int, _c: int) -> str:
        return f"poll = {file.poll()}"

    # States that single steps seldom reach by chance.

    def _do_connect(self, file: File, b: int, c: int) -> str:
        """Connect a new port of a file to a new one of another; mostly take the first event too."""
        other = self._files[b % len(self._files)]
        near = file.bind(Request.BIND_UNBOUND_PORT, other.twin.real.domid)
        if not isinstance(near, int):
            return f"connect: {near}"
        far = other.bind_interdomain(file.twin.real.domid, file.twin, near)
        if not isinstance(far, int):
            return f"connect: {far}"
        ends = (file.opened, near), (other.opened, far)
        self._pairs += [ends, ends[::-1]]
        if c % 4:
            same(*other.read(4096))
            other.write([far])
        return f"connect {near} with {far}"

    def _do_bind_many(self, file: File, b: int, _c: int) -> str:
        """Bind about as many ports as the first ring holds, or as the domain can have."""
        more = max(63 + b % 4 - len(file.opened.ports), 0)
        outcomes = [file.bind(Request.BIND_UNBOUND_PORT, 999) for _ in range(more)]
        return f"bind_many({more}): {outcomes[-1:]}"

    def _do_refill(self, file: File, b: int, _c: int) -> str:
        """Fill the ring with events of one port, which is unmasked before each is read."""
        pairs = [ends for ends in self._pairs if ends[1][0] is file.opened]
        if not pairs:
            return "no refill"
        (opened, sender), (_, receiver) = pairs[b % len(pairs)]
        senders = [each for each in self._files if each.opened is opened]
        times = 60 + b % 10
        for _ in range(times if senders else 0):
            senders[0].port_request(Request.NOTIFY, sender)
            file.twin.settle()
            file.write([receiver])
        return f"refill {receiver} {times} times"

    def _do_churn(self, file: File, b: int, _c: int) -> str:
        """Leave stale entries in the ring, up to more than it holds."""
        for _ in range(b % 70):
            near = file.bind(Request.BIND_UNBOUND_PORT, DOMID_SELF)
            if not isinstance(near, int):
                break
            far = file.bind_interdomain(DOMID_SELF, file.twin, near)
            for port in (near, far):
                if isinstance(port, int):
                    same(file.port_request(Request.UNBIND, port), 0)
                    file.opened.ports.discard(port)
        return f"churn {b % 70}"

    def _do_burst(self, _file: File, b: int, c: int) -> str:
        """Send events to a guest while it is paused, so that its kernel finds them together."""
        guests = [twin for twin in self._twins if twin.real.guest]
        if not guests:
            return "no burst"
        twin = guests[b % len(guests)]
        theirs = [file for file in self._files if file.twin is twin]
        before = [file.read(4096) for file in theirs]
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
            file.port_request(Request.NOTIFY, port)
        twin.real.guest.unpause()
        twin.fake.unpause()
        self._settle()
        after = [file.read(4096) for file in theirs]
        for real, fake in before:
            same(real, fake)
        for real, fake in after:
            if self._two_level:
                # The port that a 2-level kernel starts with depends on its own events too.
                real, fake = _from_lowest(real), _from_lowest(fake)  # noqa: PLW2901
            same(real, fake)
        return f"burst {[port for _, port in chosen]}: {[real for real, _ in after]}"

    # Choices.

    def _domids(self) -> list[int]:
        guests = [twin.real.domid for twin in self._twins[1:]]
        return [*DOMIDS, *OVER_16_BITS, *guests, *(0x10000 + domid for domid in guests)]

    def _twin_of(self, file: File, domid: int) -> Twin:
        """Return the domain that a domid means; the file's own, if there is none here."""
        cut = domid & DOMID_MAX
        return next((twin for twin in self._twins if twin.real.domid == cut), file.twin)

    def _port(self, twin: Twin, number: int) -> int:
        known = list(twin.fakes)
        if known and number % 8:
            return known[number // 8 % len(known)]
        of_no_file = [port for port in PORTS_OF_NO_FILE if port not in twin.real.offered]
        return of_no_file[number // 8 % len(of_no_file)]

    def _settle(self) -> None:
        for twin in self._twins:
            twin.settle()


def _from_lowest(read: object) -> object:
    """Rotate what came to a 2-level kernel so that the lowest port is first."""
    if not isinstance(read, list) or not read:
        return read
    start = read.index(min(read))
    return read[start:] + read[:start]

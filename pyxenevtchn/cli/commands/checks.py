"""The contract of an event-channel device, in checks that are safe on any machine.

Each uses its own handles and loopback pairs, and VIRQs and static ports that no machine has.
"""

import errno
import select
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager

from ...abi import DOMID_SELF, NR_VIRQS, UINT32_MAX
from ...channel import EventChannel
from ...errors import ChannelClosed

# In seconds: far longer than a delivery takes.
_LATE = 5.0

# More ports than the ring has entries at first.
_MANY = 100


class CheckFailed(Exception):
    """The device does not do what it must; the text says how it fails."""


class Pair:
    """Two handles, each with a port, connected with each other; no event is pending."""

    def __init__(self, near: EventChannel, far: EventChannel) -> None:
        self.near: EventChannel = near
        self.far: EventChannel = far
        self.near_port: int = near.bind_unbound_port(DOMID_SELF)
        self.far_port: int = far.bind_interdomain(DOMID_SELF, self.near_port)
        _expect(far, self.far_port)
        far.unmask(self.far_port)

    def is_quiet(self) -> bool:
        """Return whether the far end has no event; an event sent before would arrive first."""
        self.far.notify(self.far_port)
        _expect(self.near, self.near_port)
        self.near.unmask(self.near_port)
        return not self.far.wait(0)


def starts_with_an_event(device: str) -> None:
    """A connection starts with one event, which nobody sent."""
    with _pair(device) as pair:
        _check(pair.is_quiet(), "there was a second event")


def notifies(device: str) -> None:
    """An event reaches the other end, in both directions."""
    with _pair(device) as pair:
        pair.near.notify(pair.near_port)
        _expect(pair.far, pair.far_port)
        pair.far.notify(pair.far_port)
        _expect(pair.near, pair.near_port)


def polls(device: str) -> None:
    """Poll reports a pending event, and a read without one fails with EAGAIN."""
    with _pair(device) as pair:
        _check(pair.far.poll(0) == 0, "it reported an event before there was one")
        _refused(errno.EAGAIN, pair.far.read)
        pair.near.notify(pair.near_port)
        _check(pair.far.poll(_LATE) == select.POLLIN, "it did not report the event")
        _expect(pair.far, pair.far_port)
        _check(pair.far.poll(0) == 0, "it reported an event that had been read")


def merges(device: str) -> None:
    """Events of a masked port become one, which is delivered when it is unmasked."""
    with _pair(device) as pair:
        pair.near.notify(pair.near_port)
        _expect(pair.far, pair.far_port)
        for _ in range(3):
            pair.near.notify(pair.near_port)
        _check(pair.is_quiet(), "an event was delivered while the port was masked")
        pair.far.unmask(pair.far_port)
        _expect(pair.far, pair.far_port)
        pair.far.unmask(pair.far_port)
        _check(pair.is_quiet(), "more than one was delivered")


def carries_many(device: str) -> None:
    """A hundred ports on one handle lose no event."""
    with _handles(device) as (near, far):
        pairs = [Pair(near, far) for _ in range(_MANY)]
        near.notify_many([pair.near_port for pair in pairs])
        _expect(far, *(pair.far_port for pair in pairs))


def unbinds(device: str) -> None:
    """An unbound port cannot be notified, and its peer's events are dropped."""
    with _pair(device) as pair:
        pair.far.unbind(pair.far_port)
        _refused(errno.ENOTCONN, lambda: pair.far.notify(pair.far_port))
        pair.near.notify(pair.near_port)


def keeps_apart(device: str) -> None:
    """A handle can neither notify nor unbind the port of another."""
    with _pair(device) as pair:
        _refused(errno.ENOTCONN, lambda: pair.near.notify(pair.far_port))
        _refused(errno.ENOTCONN, lambda: pair.near.unbind(pair.far_port))


def connects_again(device: str) -> None:
    """A port has one peer; when that is gone, another can connect."""
    with _pair(device) as pair:
        address = (DOMID_SELF, pair.near_port)
        _refused(errno.EINVAL, lambda: pair.far.bind_interdomain(*address))
        pair.far.close()
        with EventChannel.open(device) as other:
            port = other.bind_interdomain(*address)
            pair.near.notify(pair.near_port)
            _expect(other, port)


def resets(device: str) -> None:
    """Recovery empties the ring, and the ports still work."""
    with _pair(device) as pair:
        pair.near.notify(pair.near_port)
        _check(pair.far.poll(_LATE) == select.POLLIN, "no event came")
        _check(pair.far.recover() == {pair.far_port}, "it returned other ports than its own")
        _check(pair.is_quiet(), "an event was left")
        pair.near.notify(pair.near_port)
        _expect(pair.far, pair.far_port)


def restricts(device: str) -> None:
    """A restricted handle binds nothing outside its domain, and its ports still work."""
    with _pair(device) as pair:
        _refused(errno.EINVAL, lambda: pair.far.restrict_domid(0))
        pair.far.restrict_domid(1)
        _refused(errno.EACCES, lambda: pair.far.restrict_domid(1))
        _refused(errno.EACCES, lambda: pair.far.bind_unbound_port(DOMID_SELF))
        pair.near.notify(pair.near_port)
        _expect(pair.far, pair.far_port)


def refuses_virqs(device: str) -> None:
    """A VIRQ that Xen does not have is refused."""
    with EventChannel.open(device) as channel:
        _refused(errno.EINVAL, lambda: channel.bind_virq(NR_VIRQS))


def refuses_static_ports(device: str) -> None:
    """A static port higher than any that can exist is refused."""
    with EventChannel.open(device) as channel:
        _refused((errno.ENOMEM, errno.ENOSYS), lambda: channel.bind_static(UINT32_MAX))


def wakes(device: str) -> None:
    """Closing a handle wakes the thread that waits on it."""
    ended: list[str] = []
    with EventChannel.open(device) as channel:
        waits = threading.Event()

        def wait() -> None:
            waits.set()
            try:
                channel.wait(_LATE)
            except ChannelClosed:
                ended.append("closed")

        thread = threading.Thread(target=wait)
        thread.start()
        waits.wait()
        channel.close()
        thread.join()
    _check(ended == ["closed"], "it was not woken")


CHECKS: tuple[Callable[[str], None], ...] = (
    starts_with_an_event,
    notifies,
    polls,
    merges,
    carries_many,
    unbinds,
    keeps_apart,
    connects_again,
    resets,
    restricts,
    refuses_virqs,
    refuses_static_ports,
    wakes,
)


@contextmanager
def _handles(device: str) -> Iterator[tuple[EventChannel, EventChannel]]:
    with EventChannel.open(device) as near, EventChannel.open(device) as far:
        yield near, far


@contextmanager
def _pair(device: str) -> Iterator[Pair]:
    with _handles(device) as (near, far):
        yield Pair(near, far)


def _check(fact: object, otherwise: str) -> None:
    if not fact:
        raise CheckFailed(otherwise)


def _expect(channel: EventChannel, *ports: int) -> None:
    """Check that these events arrive, in any order, and no others."""
    missing = set(ports)
    while missing:
        came = channel.wait(_LATE)
        _check(came, f"{len(missing)} of {len(ports)} events did not arrive within {_LATE:g} s")
        _check(missing.issuperset(came), f"an event that nobody sent arrived on one of {came}")
        missing.difference_update(came)


def _refused(numbers: int | Iterable[int], call: Callable[[], object]) -> None:
    """Check that a call fails with this errno, or with one of these."""
    wanted = {numbers} if isinstance(numbers, int) else set(numbers)
    names = " or ".join(sorted(errno.errorcode[number] for number in wanted))
    try:
        call()
    except OSError as error:
        if error.errno not in wanted:
            raise CheckFailed(f"{error.strerror}, not {names}") from error
    else:
        raise CheckFailed(f"it succeeded instead of failing with {names}")

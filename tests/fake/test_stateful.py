"""Any sequence of calls, checked against a simple reference.

The reference shares nothing with the fake's models: it is one flat table of ports and one list for
each ring, from which it computes the result of each call.
"""

import errno
import os
import select
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import cast

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from pyxenevtchn import DOMID_SELF, Request, Virq
from pyxenevtchn.abi import PORT_BYTES, pack_ports, unpack_ports, virq_scope
from pyxenevtchn.fake import FakeDevice, Hypervisor
from pyxenevtchn.fake.device import adopt

from ..descriptors import descriptors

GUEST = 1
ABSENT = 9

End = tuple[int, int]


@dataclass(eq=False)
class Handle:
    """An open file: the devices that share it, and what it should hold."""

    domid: int
    devices: list[FakeDevice]
    ring: list[int] = field(default_factory=list)
    slots: int = 0
    overflow: bool = False
    restricted: int | None = None
    gone: bool = False


@dataclass
class Bound:
    """A port that a handle holds."""

    handle: Handle
    reserved_for: int | None = None
    peer: End | None = None
    virq: int | None = None
    enabled: bool = True
    pending: bool = False


class FakeMachine(RuleBasedStateMachine):
    """Handles in dom0 and in a guest, and everything that can be done with them."""

    def __init__(self) -> None:
        super().__init__()
        self.fds = descriptors()
        self.handles: list[Handle] = []
        self.bound: dict[End, Bound] = {}
        # The events in each domain's queue, in order, those of closed ports too.
        self.late: dict[int, list[tuple[int, Bound]]] = {0: [], GUEST: []}
        # The ports that the kernels and dom0's daemons hold.
        self.standing: dict[int, set[int]] = {}

    @initialize(manual=st.booleans(), new=st.booleans())
    def boot(self, manual: bool, new: bool) -> None:
        self.manual, self.new = manual, new
        self.xen = Hypervisor(
            xen_version=(4, 21) if new else (4, 20), delivery="manual" if manual else "immediate"
        )
        self.create_the_guest()
        self.open(0)

    def create_the_guest(self) -> None:
        self.xen.create_domain(GUEST)
        self.deliver()
        self.standing = {
            domid: {port.port for port in self.xen.ports(domid) if port.kernel or port.daemon}
            for domid in (0, GUEST)
        }

    # The expected effects of calls.

    def lowest_free(self, domid: int) -> int:
        taken = self.standing[domid] | {port for where, port in self.bound if where == domid}
        linked = {port for port, _ in self.late[domid]}
        return next(port for port in range(1, 10**6) if port not in taken | linked)

    def hold(self, handle: Handle, port: int, bound: Bound) -> None:
        self.bound[handle.domid, port] = bound
        held = sum(each.handle is handle for each in self.bound.values())
        if held > handle.slots:
            handle.slots = 64 if handle.slots == 0 else handle.slots * 2

    def arrive(self, end: End) -> None:
        bound = self.bound[end]
        if not bound.pending:
            bound.pending = True
            if bound.enabled:
                self.come(end)

    def come(self, end: End) -> None:
        """Interrupt for a pending event, now or later."""
        domid, port = end
        if self.manual:
            if port not in dict(self.late[domid]):
                self.late[domid].append((port, self.bound[end]))
        else:
            self.take(end)

    def take(self, end: End) -> None:
        bound = self.bound[end]
        bound.pending = bound.enabled = False
        if len(bound.handle.ring) < bound.handle.slots:
            bound.handle.ring.append(end[1])
        else:
            bound.handle.overflow = True

    def drop(self, end: End) -> None:
        gone = self.bound.pop(end)
        if gone.peer is not None:
            self.bound[gone.peer].peer = None
            self.bound[gone.peer].reserved_for = end[0]

    def drop_all(self, handle: Handle) -> None:
        for end in [end for end, bound in self.bound.items() if bound.handle is handle]:
            self.drop(end)

    def expect(self, expected: int | bytes, handle: Handle, call: Callable[[], object]) -> bool:
        """Make a call that must return ``expected``, or fail with its errno if it is negative."""
        if handle.gone:
            expected = -errno.ENODEV
        if isinstance(expected, int) and expected < 0:
            with pytest.RaisesExc(OSError, check=lambda error: error.errno == -expected):
                call()
            return False
        assert call() == expected
        return True

    # The calls.

    def some_handle(self, data: st.DataObject) -> Handle:
        return data.draw(st.sampled_from(self.handles))

    def some_port(self, data: st.DataObject, domid: int) -> int:
        ports = [port for where, port in self.bound if where == domid]
        return data.draw(st.sampled_from([*ports, 0, 1, 900]))

    @precondition(lambda self: len(self.handles) < 5)
    @rule(domid=st.sampled_from([0, GUEST]))
    def open(self, domid: int) -> None:
        self.handles.append(Handle(domid, [self.xen.domain(domid).device()]))

    @rule(data=st.data())
    def duplicate(self, data: st.DataObject) -> None:
        handle = self.some_handle(data)
        twin = adopt(os.dup(handle.devices[0].fileno()))
        assert twin
        twin.core.owned = True
        handle.devices.insert(data.draw(st.integers(0, len(handle.devices))), twin)

    @precondition(lambda self: len(self.handles) > 1)
    @rule(data=st.data())
    def close(self, data: st.DataObject) -> None:
        handle = self.some_handle(data)
        handle.devices.pop().close()
        if not handle.devices:
            self.handles.remove(handle)
            self.drop_all(handle)

    @rule(data=st.data(), remote=st.sampled_from([0, GUEST, ABSENT, DOMID_SELF]))
    def bind_unbound_port(self, data: st.DataObject, remote: int) -> None:
        handle = self.some_handle(data)
        port = self.lowest_free(handle.domid)
        expected = -errno.EACCES if handle.restricted else port
        device = handle.devices[0]
        if self.expect(expected, handle, lambda: device.ioctl(Request.BIND_UNBOUND_PORT, remote)):
            reserved = handle.domid if remote == DOMID_SELF else remote
            self.hold(handle, port, Bound(handle, reserved_for=reserved))

    @rule(data=st.data(), remote=st.sampled_from([0, 0, GUEST, GUEST, ABSENT, DOMID_SELF]))
    def bind_interdomain(self, data: st.DataObject, remote: int) -> None:
        handle = self.some_handle(data)
        where = handle.domid if remote == DOMID_SELF else remote
        end = (where, self.some_port(data, where))
        port = self.lowest_free(handle.domid)
        other = self.bound.get(end)
        if handle.restricted not in {None, remote}:
            expected = -errno.EACCES
        elif where == ABSENT:
            expected = -errno.ESRCH
        elif other is None or other.peer or other.reserved_for != handle.domid:
            expected = -errno.EINVAL
        else:
            expected = port
        device = handle.devices[0]
        request = Request.BIND_INTERDOMAIN
        if self.expect(expected, handle, lambda: device.ioctl(request, remote, end[1])):
            assert other
            self.hold(handle, port, Bound(handle, peer=end))
            other.peer, other.reserved_for = (handle.domid, port), None
            self.arrive((handle.domid, port))

    @rule(data=st.data(), virq=st.sampled_from([Virq.TIMER, Virq.DEBUG, Virq.CON_RING, 5, 24]))
    def bind_virq(self, data: st.DataObject, virq: int) -> None:
        handle = self.some_handle(data)
        port = self.lowest_free(handle.domid)
        holders = [end for end, bound in self.bound.items() if bound.virq == virq]
        if handle.restricted:
            expected = -errno.EACCES
        elif virq == 24:
            expected = -errno.EINVAL
        elif self.new and handle.domid == GUEST and virq_scope(virq) == "global":
            expected = -errno.EBUSY
        elif virq == Virq.TIMER or handle.domid in dict(holders):
            expected = -errno.EEXIST
        else:
            expected = port
        device = handle.devices[0]
        if self.expect(expected, handle, lambda: device.ioctl(Request.BIND_VIRQ, virq)):
            self.hold(handle, port, Bound(handle, virq=virq))

    @rule(virq=st.sampled_from([Virq.TIMER, Virq.DEBUG, Virq.CON_RING]), in_guest=st.booleans())
    def raise_virq(self, virq: Virq, in_guest: bool) -> None:
        domid = GUEST if in_guest and virq != Virq.CON_RING else 0
        self.xen.raise_virq(virq, self.xen.domain(domid))
        for end, bound in list(self.bound.items()):
            if end[0] == domid and bound.virq == virq:
                self.arrive(end)

    @rule(data=st.data())
    def unbind(self, data: st.DataObject) -> None:
        handle = self.some_handle(data)
        port = self.some_port(data, handle.domid)
        bound = self.bound.get((handle.domid, port))
        expected = 0 if bound and bound.handle is handle else -errno.ENOTCONN
        device = handle.devices[-1]
        if self.expect(expected, handle, lambda: device.ioctl(Request.UNBIND, port)):
            self.drop((handle.domid, port))

    @rule(data=st.data())
    def notify(self, data: st.DataObject) -> None:
        handle = self.some_handle(data)
        port = self.some_port(data, handle.domid)
        bound = self.bound.get((handle.domid, port))
        expected = 0 if bound and bound.handle is handle else -errno.ENOTCONN
        device = handle.devices[0]
        sent = self.expect(expected, handle, lambda: device.ioctl(Request.NOTIFY, port))
        if sent and bound and bound.peer:
            self.arrive(bound.peer)

    @rule(data=st.data(), ports=st.integers(0, 5))
    def unmask(self, data: st.DataObject, ports: int) -> None:
        handle = self.some_handle(data)
        chosen = [self.some_port(data, handle.domid) for _ in range(ports)]
        device = handle.devices[-1]
        size = PORT_BYTES * ports
        if self.expect(size, handle, lambda: device.write(pack_ports(chosen))):
            for port in chosen:
                bound = self.bound.get((handle.domid, port))
                if bound and bound.handle is handle and not bound.enabled:
                    bound.enabled = True
                    if bound.pending:
                        self.come((handle.domid, port))

    @rule(data=st.data(), size=st.sampled_from([0, 3, 4, 11, 4096, 9999]))
    def read(self, data: st.DataObject, size: int) -> None:
        handle = self.some_handle(data)
        count = min(size, 4096) // PORT_BYTES
        expected: bytes | int
        if count == 0:
            expected = b""
        elif handle.overflow:
            expected = -errno.EFBIG
        elif not handle.ring:
            expected = -errno.EAGAIN
        else:
            expected = bytes(pack_ports(handle.ring[:count]))
        device = handle.devices[-1]
        if self.expect(expected, handle, lambda: device.read(size)):
            del handle.ring[: len(unpack_ports(cast("bytes", expected)))]

    @rule(data=st.data())
    def reset(self, data: st.DataObject) -> None:
        handle = self.some_handle(data)
        device = handle.devices[0]
        if self.expect(0, handle, lambda: device.ioctl(Request.RESET)):
            handle.ring, handle.overflow = [], False

    @rule(data=st.data(), domid=st.sampled_from([0, GUEST, DOMID_SELF]))
    def restrict(self, data: st.DataObject, domid: int) -> None:
        handle = self.some_handle(data)
        if len(self.handles) < 3:
            return
        expected = -errno.EACCES if handle.restricted else 0 if domid == GUEST else -errno.EINVAL
        device = handle.devices[0]
        if self.expect(expected, handle, lambda: device.ioctl(Request.RESTRICT_DOMID, domid)):
            handle.restricted = domid

    @rule(data=st.data(), cycles=st.integers(20, 70))
    def leave_stale_entries(self, data: st.DataObject, cycles: int) -> None:
        handle = self.some_handle(data)
        if handle.gone or handle.restricted:
            return
        ioctl = handle.devices[0].ioctl
        for _ in range(cycles):
            port = ioctl(Request.BIND_UNBOUND_PORT, DOMID_SELF)
            self.hold(handle, port, Bound(handle, reserved_for=handle.domid))
            peer = ioctl(Request.BIND_INTERDOMAIN, DOMID_SELF, port)
            self.hold(handle, peer, Bound(handle, peer=(handle.domid, port)))
            self.bound[handle.domid, port].peer = (handle.domid, peer)
            self.arrive((handle.domid, peer))
            self.deliver()
            for each in (peer, port):
                ioctl(Request.UNBIND, each)
                self.drop((handle.domid, each))

    @rule()
    def deliver(self) -> None:
        self.deliver_some(None)

    @rule(most=st.none() | st.integers(0, 3))
    def deliver_some(self, most: int | None) -> None:
        count = 0
        for domid, late in self.late.items():
            while late and count != most:
                port, bound = late.pop(0)
                if self.bound.get((domid, port)) is bound and bound.enabled:
                    self.take((domid, port))
                    count += 1
        assert self.xen.deliver(most=most) == count

    @rule()
    def destroy_and_recreate_the_guest(self) -> None:
        self.xen.domain(GUEST).destroy()
        for handle in self.handles:
            if handle.domid == GUEST:
                handle.gone = True
                self.drop_all(handle)
        self.late[GUEST] = []
        self.deliver()
        self.create_the_guest()

    # What must always hold.

    @invariant()
    def descriptors_say_what_the_rings_hold(self) -> None:
        for handle in self.handles:
            mask = select.POLLIN if handle.ring else 0
            if handle.overflow or handle.gone:
                mask = select.POLLERR
            for device in handle.devices:
                poller = select.poll()
                poller.register(device.fileno(), select.POLLIN)
                assert dict(poller.poll(0)).get(device.fileno(), 0) == mask

    @invariant()
    def the_port_tables_are_as_expected(self) -> None:
        for domid in (0, GUEST) if hasattr(self, "xen") else ():
            ports = {port.port: port for port in self.xen.ports(domid)}
            found = {port: ports[port] for port in set(ports) - self.standing[domid]}
            assert set(found) == {port for where, port in self.bound if where == domid}
            for number, port in found.items():
                bound = self.bound[domid, number]
                remote = bound.peer or (bound.reserved_for, None)
                assert (port.remote_domid, port.remote_port) == remote
                assert (port.virq, port.pending, port.masked) == (
                    bound.virq,
                    bound.pending,
                    not bound.enabled,
                )

    def teardown(self) -> None:
        while self.handles:
            handle = self.handles.pop()
            while handle.devices:
                handle.devices.pop().close()
        if hasattr(self, "xen"):
            self.xen.check_clean()
        assert descriptors() == self.fds


TestFake = pytest.mark.timeout(600)(FakeMachine.TestCase)  # to shrink what fails takes minutes
TestFake.settings = settings(
    max_examples=100,
    stateful_step_count=40,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
)

"""The fake's descriptor: how it polls and reads, who shares it, and that none leaks."""

import asyncio
import fcntl
import functools
import os
import select
import signal
import socket
from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from pyxenevtchn import DOMID_SELF, Request, RingOverflow, Virq
from pyxenevtchn.abi import PORT_BYTES, pack_ports, unpack_ports
from pyxenevtchn.fake import FakeDevice, Hypervisor
from pyxenevtchn.fake.device import adopt

from ..concurrency import alarms, child, threads
from ..descriptors import descriptors
from ..limits import TIMEOUT
from .helpers import open_without_descriptors


@dataclass(frozen=True)
class Loop:
    """A device with two ports that are connected to each other; no event is pending."""

    device: FakeDevice
    sender: int
    receiver: int

    def notify(self) -> None:
        self.device.ioctl(Request.NOTIFY, self.sender)

    def read(self, ports: int = 1024) -> list[int]:
        return unpack_ports(self.device.read(PORT_BYTES * ports))

    def unmask(self) -> None:
        self.device.write(pack_ports(self.receiver))

    def overflow(self) -> None:
        """Overflow the ring, with events of ports that have been unbound."""
        for _ in range(65):
            sender = self.device.ioctl(Request.BIND_UNBOUND_PORT, DOMID_SELF)
            receiver = self.device.ioctl(Request.BIND_INTERDOMAIN, DOMID_SELF, sender)
            self.device.ioctl(Request.UNBIND, receiver)
            self.device.ioctl(Request.UNBIND, sender)


def make_loop(device: FakeDevice) -> Loop:
    sender = device.ioctl(Request.BIND_UNBOUND_PORT, DOMID_SELF)
    loop = Loop(device, sender, device.ioctl(Request.BIND_INTERDOMAIN, DOMID_SELF, sender))
    assert loop.read() == [loop.receiver]
    loop.unmask()
    return loop


@pytest.fixture
def xen() -> Iterator[Hypervisor]:
    hypervisor = Hypervisor()
    yield hypervisor
    hypervisor.check_clean()


@pytest.fixture
def device(xen: Hypervisor) -> Iterator[FakeDevice]:
    device = xen.dom0.device()
    yield device
    device.close()


@pytest.fixture
def loop(device: FakeDevice) -> Loop:
    return make_loop(device)


def readiness(device: FakeDevice, asked: int = select.POLLIN | select.POLLOUT) -> int:
    poller = select.poll()
    poller.register(device.fileno(), asked)
    return dict(poller.poll(0)).get(device.fileno(), 0)


def test_an_overflow_is_an_error_that_stays_until_reset(loop: Loop) -> None:
    for _ in range(3):
        loop.overflow()
        for _ in range(2):
            assert readiness(loop.device, select.POLLIN) == select.POLLERR
            assert readiness(loop.device) == select.POLLERR | select.POLLOUT
            with pytest.raises(RingOverflow, match="read"):
                loop.read()
        loop.device.ioctl(Request.RESET)
        assert readiness(loop.device) == select.POLLOUT
        loop.notify()
        assert readiness(loop.device) == select.POLLOUT | select.POLLIN
        assert loop.read() == [loop.receiver]
        loop.unmask()


def test_epoll_sees_an_overflow_by_level(loop: Loop) -> None:
    with select.epoll() as epoll:
        epoll.register(loop.device.fileno(), select.EPOLLIN)
        loop.overflow()
        for _ in range(2):
            assert epoll.poll(0) == [(loop.device.fileno(), select.EPOLLERR)]
        loop.device.ioctl(Request.RESET)
        assert epoll.poll(0) == []


def test_an_edge_is_the_first_event_of_an_empty_ring(loop: Loop) -> None:
    ready = [(loop.device.fileno(), select.EPOLLIN)]
    with select.epoll() as epoll:
        epoll.register(loop.device.fileno(), select.EPOLLIN | select.EPOLLET)
        loop.notify()
        assert epoll.poll(0) == ready
        loop.unmask()
        loop.notify()
        assert epoll.poll(0) == []
        assert loop.read(1) == loop.read(1) == [loop.receiver]
        loop.unmask()
        loop.notify()
        assert epoll.poll(0) == ready


def test_asyncio_reports_events(loop: Loop) -> None:
    async def read_one() -> list[int]:
        running = asyncio.get_running_loop()
        came = running.create_future()
        running.add_reader(loop.device.fileno(), came.set_result, None)
        running.call_soon(loop.notify)
        await asyncio.wait_for(came, TIMEOUT)
        running.remove_reader(loop.device.fileno())
        return loop.read()

    assert asyncio.run(read_one()) == [loop.receiver]


@pytest.fixture
def sigio() -> Iterator[list[int]]:
    """A list that grows with every SIGIO."""
    seen: list[int] = []
    before = signal.signal(signal.SIGIO, lambda number, _frame: seen.append(number))
    yield seen
    signal.signal(signal.SIGIO, before)


def test_sigio_comes_for_events_and_not_for_an_overflow(loop: Loop, sigio: list[int]) -> None:
    fd = loop.device.fileno()
    flags = fcntl.fcntl(fd, fcntl.F_GETFL)
    fcntl.fcntl(fd, fcntl.F_SETOWN, os.getpid())
    fcntl.fcntl(fd, fcntl.F_SETFL, flags | os.O_ASYNC)
    loop.overflow()
    # One for the first event, none for later ones and none for the overflow.
    assert len(sigio) == 1
    loop.device.ioctl(Request.RESET)
    loop.notify()
    assert len(sigio) == 2
    loop.read()
    assert len(sigio) == 2
    assert fcntl.fcntl(fd, fcntl.F_GETFL) == flags | os.O_ASYNC


@pytest.mark.parametrize("cloexec", [True, False])
def test_the_descriptor_has_the_flags_that_it_was_opened_with(
    xen: Hypervisor, cloexec: bool
) -> None:
    device = xen.dom0.device(cloexec=cloexec)
    assert os.get_inheritable(device.fileno()) is not cloexec
    device.close()


def test_a_signal_handler_may_use_the_device_at_any_time(loop: Loop) -> None:
    def use() -> None:
        loop.notify()
        loop.unmask()

    with alarms(1000, use) as left:
        while left() > 0:
            use()
            if readiness(loop.device, select.POLLIN) == select.POLLERR:
                loop.device.ioctl(Request.RESET)
            else:
                assert set(loop.read()) == {loop.receiver}
    loop.device.ioctl(Request.RESET)
    loop.unmask()
    loop.notify()
    assert readiness(loop.device, select.POLLIN) == select.POLLIN


def test_threads_that_notify_lose_no_event(xen: Hypervisor) -> None:
    loops = [make_loop(xen.dom0.device()) for _ in range(4)]
    rounds = 300

    def bounce(mine: Loop, following: Loop) -> None:
        for _ in range(rounds):
            poller = select.poll()
            poller.register(mine.device.fileno(), select.POLLIN)
            assert poller.poll(TIMEOUT * 1000)
            assert mine.read() == [mine.receiver]
            mine.unmask()
            following.notify()

    pairs = zip(loops, [*loops[1:], loops[0]], strict=True)
    with threads(*(functools.partial(bounce, *pair) for pair in pairs)):
        loops[0].notify()
    assert loops[0].read() == [loops[0].receiver]
    for each in loops:
        each.device.close()


def test_a_default_timeout_for_sockets_changes_nothing(xen: Hypervisor) -> None:
    socket.setdefaulttimeout(1000)  # longer than a test lasts
    try:
        loop = make_loop(xen.dom0.device())
    finally:
        socket.setdefaulttimeout(None)
    with pytest.raises(BlockingIOError):
        loop.read()
    loop.device.close()


def test_closing_leaves_no_descriptor_open(xen: Hypervisor) -> None:
    before = descriptors()
    loop = make_loop(xen.dom0.device())
    loop.notify()
    loop.overflow()
    twin = adopt(os.dup(loop.device.fileno()))
    assert twin
    twin.core.owned = True
    loop.device.close()
    loop.device.close()
    twin.close()
    del loop, twin  # this frees their descriptor numbers
    assert descriptors() == before


def test_an_open_without_free_descriptors_leaves_none_open(xen: Hypervisor) -> None:
    open_without_descriptors(xen.dom0.device)
    xen.check_clean()


def test_a_duplicate_has_the_same_ring_and_ports(loop: Loop) -> None:
    twin = adopt(os.dup(loop.device.fileno()))
    assert twin
    twin.core.owned = True
    assert twin.name == f"fd {twin.fileno()}"
    assert twin.space == loop.device.space
    loop.notify()
    assert readiness(twin) == readiness(loop.device) == select.POLLIN | select.POLLOUT
    assert unpack_ports(twin.read(4)) == [loop.receiver]
    loop.device.close()
    twin.write(pack_ports(loop.receiver))
    twin.ioctl(Request.NOTIFY, loop.sender)
    assert unpack_ports(twin.read(4)) == [loop.receiver]
    twin.close()


def test_the_last_close_unbinds_the_ports(xen: Hypervisor) -> None:
    first = xen.dom0.device()
    first.ioctl(Request.BIND_VIRQ, Virq.DEBUG)
    second = adopt(os.dup(first.fileno()))
    borrowed = adopt(first.fileno())
    assert second
    assert borrowed
    second.core.owned = True
    for closed in (borrowed, first):
        closed.close()
        assert any(port.virq == Virq.DEBUG for port in xen.ports(0))
    second.close()
    xen.check_clean()


def test_a_borrowed_duplicate_counts_until_its_owner_closes_it(xen: Hypervisor) -> None:
    device = xen.dom0.device()
    duplicate = os.dup(device.fileno())
    borrower = adopt(duplicate)
    assert borrower
    device.close()
    borrower.close()
    with pytest.raises(AssertionError, match=f"fd .{duplicate}."):
        xen.check_clean()
    os.close(duplicate)
    xen.check_clean()


def test_other_descriptors_are_not_adopted(xen: Hypervisor) -> None:
    device = xen.dom0.device()
    duplicate = os.dup(device.fileno())
    device.close()
    assert adopt(duplicate) is None
    os.close(duplicate)
    with pytest.raises(OSError, match="Bad file descriptor"):
        adopt(duplicate)


def test_a_child_process_disturbs_nothing(loop: Loop) -> None:
    def disturb() -> None:
        with pytest.raises(RuntimeError, match="parent"):
            adopt(loop.device.fileno())
        before = descriptors()
        loop.device.close()
        assert len(before - descriptors()) == 3

    loop.notify()
    with child(disturb):
        pass
    assert readiness(loop.device) == select.POLLIN | select.POLLOUT
    assert loop.read() == [loop.receiver]

"""The model of the driver, by itself: what a contract test cannot reach on a real device."""

import errno
import select

import pytest

from pyxenevtchn import DOMID_SELF, Request, Virq
from pyxenevtchn.abi import pack_ports, unpack_ports
from pyxenevtchn.fake.driver import PAGE_BYTES, OpenFile
from pyxenevtchn.fake.hypervisor import State, Xen
from pyxenevtchn.fake.kernel import Kernel

from .test_hypervisor import refused


@pytest.fixture
def xen() -> Xen:
    return Xen((4, 17), 131072)


@pytest.fixture
def kernel(xen: Xen) -> Kernel:
    return Kernel(xen.domains[0], "fifo", 131072, immediate=True)


class File(OpenFile):
    """An open file that remembers what it said of poll."""

    def __init__(self, kernel: Kernel) -> None:
        self.said: list[int] = []
        super().__init__(kernel, self.said.append)

    def events(self) -> list[int]:
        return unpack_ports(self.read(PAGE_BYTES)) if self.poll() == select.POLLIN else []

    def connect(self) -> tuple[int, int]:
        """Connect two ports of this file: one that sends, and one that has its first event."""
        sender = self.ioctl(Request.BIND_UNBOUND_PORT, DOMID_SELF)
        return sender, self.ioctl(Request.BIND_INTERDOMAIN, DOMID_SELF, sender)


def test_the_ring_has_64_slots_and_doubles_as_ports_are_bound(kernel: Kernel) -> None:
    file = File(kernel)
    sizes = [file.ring_size]
    for _ in range(257):
        file.ioctl(Request.BIND_UNBOUND_PORT, 0)
        sizes.append(file.ring_size)
    assert [sizes[n] for n in (0, 1, 64, 65, 128, 129, 256, 257)] == [
        0, 64, 64, 128, 128, 256, 256, 512,
    ]  # fmt: skip
    for port in list(file.ports):
        file.ioctl(Request.UNBIND, port)
    assert file.ring_size == 512


def test_a_static_bind_that_fails_grows_the_ring_all_the_same(kernel: Kernel) -> None:
    file = File(kernel)
    with refused(errno.ENOMEM):
        file.ioctl(Request.BIND_STATIC, 131072)
    assert file.ring_size == 64
    assert file.ports == {}


def test_poll_changes_with_the_first_event_and_the_last_read(kernel: Kernel) -> None:
    file = File(kernel)
    ports = [file.connect()[1] for _ in range(3)]
    assert file.said == [select.POLLIN]
    assert unpack_ports(file.read(8)) == ports[:2]
    assert file.said == [select.POLLIN]
    assert unpack_ports(file.read(8)) == ports[2:]
    assert file.said == [select.POLLIN, 0]
    # A failed read says it again: whoever did not hear the first time hears now.
    with refused(errno.EAGAIN):
        file.read(8)
    assert file.said == [select.POLLIN, 0, 0]


def test_a_read_gives_a_page_at_most(kernel: Kernel) -> None:
    file = File(kernel)
    ports = [file.connect()[1] for _ in range(PAGE_BYTES // 4 + 2)]
    assert unpack_ports(file.read(3 * PAGE_BYTES)) == ports[:-2]
    assert unpack_ports(file.read(3 * PAGE_BYTES)) == ports[-2:]


def test_an_overflow_is_said_once_and_reads_fail_until_reset(kernel: Kernel) -> None:
    file = File(kernel)
    for _ in range(70):
        for port in file.connect():
            file.ioctl(Request.UNBIND, port)
    assert file.said == [select.POLLIN, select.POLLERR]
    assert file.read(3) == b""
    with refused(errno.EFBIG):
        file.read(4)
    file.ioctl(Request.RESET)
    assert file.said[2:] == [0]
    with refused(errno.EAGAIN):
        file.read(4)


def test_an_event_that_the_ring_dropped_leaves_its_port_disabled(kernel: Kernel) -> None:
    file = File(kernel)
    for _ in range(64):
        for port in file.connect():
            file.ioctl(Request.UNBIND, port)
    sender, receiver = file.connect()
    assert file.poll() == select.POLLERR
    assert file.ports[receiver] is False
    file.ioctl(Request.NOTIFY, sender)
    file.ioctl(Request.RESET)
    assert file.events() == []
    file.write(pack_ports(receiver))
    assert file.events() == [receiver]


def test_a_disabled_port_keeps_its_event_in_the_hypervisor(kernel: Kernel) -> None:
    file = File(kernel)
    sender, receiver = file.connect()
    assert file.events() == [receiver]
    for _ in range(3):
        file.ioctl(Request.NOTIFY, sender)
    evtchn = kernel.domain.ports[receiver]
    assert (evtchn.pending, evtchn.masked, file.poll()) == (True, True, 0)
    file.write(pack_ports(receiver))
    assert (evtchn.pending, evtchn.masked, file.events()) == (False, True, [receiver])


def test_a_write_takes_a_page_and_skips_what_it_does_not_know(kernel: Kernel) -> None:
    file, other = File(kernel), File(kernel)
    _, theirs = other.connect()
    _, mine = file.connect()
    assert file.write(pack_ports([0, theirs, 2**32 - 1])) == 12
    assert other.ports[theirs] is False
    assert file.write(pack_ports([0] * (PAGE_BYTES // 4) + [mine])) == PAGE_BYTES
    assert file.ports[mine] is False
    assert file.write(memoryview(bytes(pack_ports(mine)) + b"\1")) == 4
    assert file.ports[mine] is True


def test_unbind_knows_ports_by_the_pages_that_the_kernel_has_made(kernel: Kernel) -> None:
    file = File(kernel)
    for port, number in ((1023, errno.ENOTCONN), (1024, errno.EINVAL), (131071, errno.EINVAL)):
        with refused(number):
            file.ioctl(Request.UNBIND, port)
    file.ioctl(Request.BIND_STATIC, 4000)
    with refused(errno.ENOTCONN):
        file.ioctl(Request.UNBIND, 4095)
    with refused(errno.EINVAL):
        file.ioctl(Request.UNBIND, 4096)


def test_the_2_level_abi_has_all_its_channels_from_the_start(xen: Xen) -> None:
    file = File(Kernel(xen.domains[0], "2l", 4096, immediate=True))
    with refused(errno.ENOTCONN):
        file.ioctl(Request.UNBIND, 4095)
    for request in (Request.UNBIND, Request.BIND_STATIC):
        with refused(errno.EINVAL if request == Request.UNBIND else errno.ENOMEM):
            file.ioctl(request, 4096)


def test_a_static_port_that_somebody_holds_is_busy(kernel: Kernel) -> None:
    file, other = File(kernel), File(kernel)
    port = other.ioctl(Request.BIND_UNBOUND_PORT, 0)
    for held in (port, *kernel.own_ports):
        with refused(errno.EBUSY):
            file.ioctl(Request.BIND_STATIC, held)
    with refused(errno.EISCONN):
        other.ioctl(Request.BIND_STATIC, port)
    assert file.ports == {}


def test_unbinding_a_static_port_leaves_it_open(kernel: Kernel, xen: Xen) -> None:
    guest = xen.create()
    port = kernel.domain.alloc_unbound(guest.domid)
    sender = guest.bind_interdomain(0, port)
    file = File(kernel)
    file.ioctl(Request.BIND_STATIC, port)
    guest.send(sender)
    assert file.events() == [port]
    file.write(pack_ports(port))
    file.ioctl(Request.UNBIND, port)
    assert kernel.domain.ports[port].state == State.INTERDOMAIN
    guest.send(sender)
    # It is masked meanwhile, so what comes waits for the next who takes it over.
    heir = File(kernel)
    heir.ioctl(Request.BIND_STATIC, port)
    assert heir.events() == [port]
    heir.release()
    assert port in kernel.domain.ports


def test_a_static_port_that_is_let_go_before_delivery_keeps_its_event(xen: Xen) -> None:
    kernel = Kernel(xen.domains[0], "fifo", 131072, immediate=False)
    port = kernel.domain.alloc_unbound(0)
    sender = kernel.domain.bind_interdomain(0, port)
    file = File(kernel)
    file.ioctl(Request.BIND_STATIC, port)
    kernel.domain.send(sender)
    file.ioctl(Request.UNBIND, port)
    assert kernel.deliver() == 0
    file.ioctl(Request.BIND_STATIC, port)
    assert kernel.deliver() == 1
    assert file.events() == [port]


def test_a_number_that_a_static_bind_has_taken_is_given_to_nobody(kernel: Kernel) -> None:
    file, other = File(kernel), File(kernel)
    free = max(kernel.domain.ports) + 1
    file.ioctl(Request.BIND_STATIC, free)
    for handle, number in ((file, errno.EEXIST), (other, errno.EBUSY)):
        with refused(number):
            handle.ioctl(Request.BIND_UNBOUND_PORT, 0)
    assert free not in kernel.domain.ports
    file.ioctl(Request.UNBIND, free)
    assert other.ioctl(Request.BIND_UNBOUND_PORT, 0) == free


def test_domids_are_cut_to_16_bits_after_the_restriction_is_checked(kernel: Kernel) -> None:
    file = File(kernel)
    port = file.ioctl(Request.BIND_UNBOUND_PORT, 0x10000)
    assert file.ioctl(Request.BIND_INTERDOMAIN, 0x10000, port)
    file.ioctl(Request.RESTRICT_DOMID, 5)
    with refused(errno.EACCES):
        file.ioctl(Request.BIND_INTERDOMAIN, 0x10005, 1)
    with refused(errno.ESRCH):
        file.ioctl(Request.BIND_INTERDOMAIN, 5, 1)


@pytest.mark.parametrize("domid", [0, 0x7FF0, 0xFFFF])
def test_a_restriction_that_is_refused_restricts_nothing(kernel: Kernel, domid: int) -> None:
    file = File(kernel)
    with refused(errno.EINVAL):
        file.ioctl(Request.RESTRICT_DOMID, domid)
    file.ioctl(Request.RESTRICT_DOMID, 1)
    with refused(errno.EACCES):
        file.ioctl(Request.RESTRICT_DOMID, domid)
    with refused(errno.EACCES):
        file.ioctl(Request.BIND_VIRQ, 99)


def test_a_release_unbinds_every_port(kernel: Kernel) -> None:
    before = set(kernel.domain.ports)
    file = File(kernel)
    file.connect()
    file.ioctl(Request.BIND_VIRQ, Virq.DEBUG)
    file.ioctl(Request.BIND_STATIC, 1000)
    file.release()
    assert set(kernel.domain.ports) == before
    assert (kernel.holders, kernel.files) == ({}, set())


@pytest.mark.parametrize(("abi", "forwards"), [("fifo", False), ("2l", True)])
def test_waiting_interrupts_run_in_the_order_of_the_abi(xen: Xen, abi: str, forwards: bool) -> None:
    kernel = Kernel(xen.domains[0], abi, 4096, immediate=False)
    file = File(kernel)
    pairs = [file.connect() for _ in range(5)]
    assert kernel.deliver() == 5
    receivers = [receiver for _, receiver in pairs]
    assert file.events() == receivers
    file.write(pack_ports(receivers))
    for sender, _ in reversed(pairs):
        file.ioctl(Request.NOTIFY, sender)
    assert file.poll() == 0
    assert kernel.deliver() == 5
    assert file.events() == (receivers if forwards else receivers[::-1])


def test_an_event_whose_port_is_closed_before_delivery_is_lost(xen: Xen) -> None:
    kernel = Kernel(xen.domains[0], "fifo", 131072, immediate=False)
    file = File(kernel)
    sender, receiver = file.connect()
    file.ioctl(Request.UNBIND, receiver)
    assert file.ioctl(Request.BIND_UNBOUND_PORT, 0) == receiver
    assert kernel.deliver() == 0
    assert file.events() == []
    file.ioctl(Request.NOTIFY, sender)

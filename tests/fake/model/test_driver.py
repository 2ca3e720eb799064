"""The model of the driver, by itself: what a contract test cannot reach on a real device."""

import errno
import select
from random import Random

import pytest

from pyxenevtchn import DOMID_SELF, Request, Virq
from pyxenevtchn.abi import pack_ports, unpack_ports
from pyxenevtchn.fake import KernelBug, State
from pyxenevtchn.fake.model.configuration import Abi, Configuration, Delivery
from pyxenevtchn.fake.model.driver import PAGE_BYTES, OpenFile
from pyxenevtchn.fake.model.linux import Kernel
from pyxenevtchn.fake.model.xen import Xen
from pyxenevtchn.fake.model.xsm import Xsm

from .test_xen import refused


def boot(
    linux: tuple[int, int] = (6, 12), abi: Abi = "fifo", delivery: Delivery = "immediate"
) -> Kernel:
    """Boot a dom0."""
    configuration = Configuration(linux=linux, abi=abi, delivery=delivery)
    xen = Xen((4, 17), configuration.max_channels, Xsm())
    return Kernel(xen.domains[0], configuration, Random(0))  # noqa: S311 - no secret


@pytest.fixture
def kernel() -> Kernel:
    return boot()


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
    assert file.said[2:] == [select.POLLERR, 0]
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


def test_the_2_level_abi_has_all_its_channels_from_the_start() -> None:
    file = File(boot(abi="2l"))
    with refused(errno.ENOTCONN):
        file.ioctl(Request.UNBIND, 4095)
    for request in (Request.UNBIND, Request.BIND_STATIC):
        with refused(errno.EINVAL if request == Request.UNBIND else errno.ENOMEM):
            file.ioctl(request, 4096)


def test_before_linux_6_6_there_is_no_bind_static() -> None:
    file = File(boot(linux=(6, 5)))
    for port in (1, 131072):
        with refused(errno.ENOSYS):
            file.ioctl(Request.BIND_STATIC, port)
    assert file.ring_size == 0


def test_a_static_port_of_the_kernel_is_a_kernel_bug(kernel: Kernel) -> None:
    file = File(kernel)
    for port in kernel.own_ports:
        with pytest.raises(KernelBug, match=f"bind_evtchn_to_irqhandler_chip: port {port} is held"):
            file.ioctl(Request.BIND_STATIC, port)
    assert file.ports == {}


def test_from_linux_6_7_two_handles_can_hold_a_port_until_one_lets_it_go(kernel: Kernel) -> None:
    owner, other = File(kernel), File(kernel)
    sender, port = owner.connect()
    assert owner.events() == [port]
    assert other.ioctl(Request.BIND_STATIC, port) == 0
    # The event that the owner has not unmasked yet is its alone.
    assert other.events() == []
    owner.write(pack_ports(port))
    owner.ioctl(Request.NOTIFY, sender)
    assert (owner.events(), other.events()) == ([port], [port])
    # Whoever writes first lets the next event come, to both.
    owner.ioctl(Request.NOTIFY, sender)
    other.write(pack_ports(port))
    assert (owner.events(), other.events()) == ([port], [port])
    other.release()
    owner.ioctl(Request.NOTIFY, sender)
    assert owner.events() == []
    with pytest.raises(KernelBug, match=rf"BUG_ON\(irq < 0\).*port {port}"):
        owner.ioctl(Request.UNBIND, port)
    # Nor does Xen get the port back.
    assert port in kernel.domain.ports


def test_in_linux_6_6_the_second_handle_is_refused_and_the_first_loses_its_port() -> None:
    kernel = boot(linux=(6, 6))
    owner, other = File(kernel), File(kernel)
    sender, port = owner.connect()
    with refused(errno.EBUSY):
        other.ioctl(Request.BIND_STATIC, port)
    assert other.ports == {}
    other.release()
    assert port not in kernel.domain.ports
    owner.ioctl(Request.NOTIFY, sender)
    with pytest.raises(KernelBug, match=rf"BUG_ON.*port {port}"):
        owner.release()


def test_unbinding_a_static_port_leaves_it_open(kernel: Kernel) -> None:
    guest = kernel.domain
    port = guest.alloc_unbound(0)
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


def test_a_static_port_that_is_let_go_before_delivery_keeps_its_event() -> None:
    kernel = boot(delivery="manual")
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


def test_a_number_that_a_static_bind_has_taken_makes_the_driver_forget_its_ports(
    kernel: Kernel,
) -> None:
    file = File(kernel)
    sender, receiver = file.connect()
    assert file.events() == [receiver]
    free = max(kernel.domain.ports) + 1
    file.ioctl(Request.BIND_STATIC, free)
    with refused(errno.EEXIST):
        file.ioctl(Request.BIND_UNBOUND_PORT, 0)
    assert free not in kernel.domain.ports
    for port in (sender, receiver, free):
        with refused(errno.ENOTCONN):
            file.ioctl(Request.NOTIFY, port)
    # What they were to be is there still, and nothing unmasks it.
    kernel.domain.unmask(receiver)
    for _ in range(2):
        kernel.domain.send(sender)
    assert file.events() == [receiver]
    file.write(pack_ports(receiver))
    assert file.events() == []
    with pytest.raises(KernelBug, match="evtchn_release: interrupts still go to freed memory"):
        file.release()


def test_the_driver_goes_on_counting_the_ports_that_it_forgot(kernel: Kernel) -> None:
    file = File(kernel)
    for _ in range(63):
        file.ioctl(Request.BIND_UNBOUND_PORT, 0)
    file.ioctl(Request.BIND_STATIC, max(kernel.domain.ports) + 1)
    with refused(errno.EEXIST):
        file.ioctl(Request.BIND_UNBOUND_PORT, 0)
    assert (file.ports, file.ring_size) == ({}, 64)
    file.ioctl(Request.BIND_UNBOUND_PORT, 0)
    assert file.ring_size == 128


@pytest.mark.parametrize("linux", [(6, 6), (6, 7)])
def test_a_number_that_another_handles_static_bind_has_taken(linux: tuple[int, int]) -> None:
    kernel = boot(linux=linux)
    file, other = File(kernel), File(kernel)
    free = max(kernel.domain.ports) + 1
    file.ioctl(Request.BIND_STATIC, free)
    if linux == (6, 6):
        with refused(errno.EBUSY):
            other.ioctl(Request.BIND_UNBOUND_PORT, 0)
        assert free not in kernel.domain.ports
    else:
        assert other.ioctl(Request.BIND_UNBOUND_PORT, 0) == free
        sender = other.ioctl(Request.BIND_INTERDOMAIN, 0, free)
        other.events()
        other.ioctl(Request.NOTIFY, sender)
        assert (file.events(), other.events()) == ([free], [free])
        other.ioctl(Request.UNBIND, free)
    with pytest.raises(KernelBug, match="BUG_ON"):
        file.ioctl(Request.UNBIND, free)


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
def test_waiting_interrupts_run_in_the_order_of_the_abi(abi: Abi, forwards: bool) -> None:
    kernel = boot(abi=abi, delivery="manual")
    kernel.deliver()
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


@pytest.mark.parametrize(("abi", "free"), [("fifo", False), ("2l", True)])
def test_an_event_whose_port_is_closed_before_delivery_is_lost(abi: Abi, free: bool) -> None:
    kernel = boot(abi=abi, delivery="manual")
    file = File(kernel)
    sender, receiver = file.connect()
    file.ioctl(Request.UNBIND, receiver)
    # With the FIFO ABI the number is in the queue still, and free once it is out of that.
    assert (file.ioctl(Request.BIND_UNBOUND_PORT, 0) == receiver) is free
    assert kernel.deliver() == 0
    assert file.events() == []
    file.ioctl(Request.NOTIFY, sender)
    if not free:
        assert file.ioctl(Request.BIND_UNBOUND_PORT, 0) == receiver


def test_the_2_level_abi_goes_on_after_the_last_event_and_round() -> None:
    kernel = boot(abi="2l", delivery="manual")
    file = File(kernel)
    pairs = [file.connect() for _ in range(6)]
    kernel.deliver()
    receivers = file.events()
    file.write(pack_ports(receivers))

    def order(*sent: int) -> list[int]:
        for index in sent:
            file.ioctl(Request.NOTIFY, pairs[index][0])
        kernel.deliver()
        came = file.events()
        file.write(pack_ports(came))
        return [receivers.index(port) for port in came]

    assert order(2) == [2]
    assert order(5, 1, 4, 2, 0, 3) == [3, 4, 5, 0, 1, 2]
    assert order(1, 2, 5) == [5, 1, 2]
    # The timer's interrupt comes first, and moves nothing.
    kernel.domain.raise_virq(Virq.TIMER)
    assert order(0, 1, 2, 3) == [3, 0, 1, 2]


def test_events_can_be_delivered_one_by_one() -> None:
    kernel = boot(delivery="manual")
    file = File(kernel)
    ports = [file.connect()[1] for _ in range(5)]
    assert kernel.deliver(0) == 0
    assert kernel.deliver(2) == 2
    assert file.events() == ports[:2]
    assert kernel.deliver(9) == 3
    assert file.events() == ports[2:]


def test_in_a_storm_what_is_unmasked_stays_masked_until_it_is_over() -> None:
    kernel = boot(delivery="manual")
    file = File(kernel)
    calm, calm_port = file.connect()
    assert kernel.deliver() == 1
    sender, port = file.connect()
    assert kernel.deliver(storm=True) == 1
    assert file.events() == [calm_port, port]
    file.write(pack_ports([calm_port, port]))
    for each in (calm, sender):
        file.ioctl(Request.NOTIFY, each)
    bound = kernel.domain.ports
    assert [(bound[p].pending, bound[p].masked) for p in (calm_port, port)] == [
        (True, False), (True, True),
    ]  # fmt: skip
    # Its EOI comes when the kernel has left its loop over the flood.
    assert kernel.deliver() == 2
    assert file.events() == [calm_port, port]


def test_a_port_that_is_let_go_in_a_storm_is_forgotten_by_it() -> None:
    kernel = boot(delivery="manual")
    file = File(kernel)
    sender, port = file.connect()
    kernel.deliver(storm=True)
    file.write(pack_ports(port))
    file.ioctl(Request.UNBIND, port)
    assert file.ioctl(Request.BIND_INTERDOMAIN, 0, sender) == port
    assert kernel.deliver() == 1
    assert kernel.domain.ports[port].masked

"""The model of the driver: a file's ring, and what poll reports of it."""

import errno
import select

from pyxenevtchn import Request
from pyxenevtchn.abi import pack_ports, unpack_ports
from pyxenevtchn.fake.model.driver import PAGE_BYTES
from pyxenevtchn.fake.model.linux import Kernel

from ..helpers import refused
from .kernels import File


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
    assert file.shown == [select.POLLIN]
    assert unpack_ports(file.read(8)) == ports[:2]
    assert file.shown == [select.POLLIN]
    assert unpack_ports(file.read(8)) == ports[2:]
    assert file.shown == [select.POLLIN, 0]
    # A failed read shows it again, in case the first time was interrupted.
    with refused(errno.EAGAIN):
        file.read(8)
    assert file.shown == [select.POLLIN, 0, 0]


def test_a_read_returns_at_most_a_page(kernel: Kernel) -> None:
    file = File(kernel)
    ports = [file.connect()[1] for _ in range(PAGE_BYTES // 4 + 2)]
    assert unpack_ports(file.read(3 * PAGE_BYTES)) == ports[:-2]
    assert unpack_ports(file.read(3 * PAGE_BYTES)) == ports[-2:]


def test_an_overflow_is_shown_once_and_reads_fail_until_reset(kernel: Kernel) -> None:
    file = File(kernel)
    for _ in range(70):
        for port in file.connect():
            file.ioctl(Request.UNBIND, port)
    assert file.shown == [select.POLLIN, select.POLLERR]
    assert file.read(3) == b""
    with refused(errno.EFBIG):
        file.read(4)
    file.ioctl(Request.RESET)
    assert file.shown[2:] == [select.POLLERR, 0]
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

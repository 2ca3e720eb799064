"""The model of the driver: what a contract test cannot reach on a real device."""

import errno

import pytest

from pyxenevtchn import Request, Virq
from pyxenevtchn.abi import pack_ports
from pyxenevtchn.fake.model.driver import PAGE_BYTES
from pyxenevtchn.fake.model.linux import Kernel

from ..helpers import refused
from .kernels import File, boot


def test_a_write_takes_at_most_a_page_and_skips_unknown_ports(kernel: Kernel) -> None:
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

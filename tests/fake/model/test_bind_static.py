"""The model of the driver: BIND_STATIC, which checks little, and what goes wrong after it."""

import errno

import pytest

from pyxenevtchn import Request
from pyxenevtchn.abi import pack_ports
from pyxenevtchn.fake import KernelBug, State
from pyxenevtchn.fake.model.linux import Kernel

from ..helpers import refused
from .kernels import File, boot


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


def test_from_linux_6_7_two_handles_can_hold_a_port_until_one_unbinds_it(kernel: Kernel) -> None:
    owner, other = File(kernel), File(kernel)
    sender, port = owner.connect()
    assert owner.events() == [port]
    assert other.ioctl(Request.BIND_STATIC, port) == 0
    # The owner had its event before: only the owner has it.
    assert other.events() == []
    owner.write(pack_ports(port))
    owner.ioctl(Request.NOTIFY, sender)
    assert (owner.events(), other.events()) == ([port], [port])
    # The first write of the two unmasks the port, and the next event comes to both.
    owner.ioctl(Request.NOTIFY, sender)
    other.write(pack_ports(port))
    assert (owner.events(), other.events()) == ([port], [port])
    other.release()
    owner.ioctl(Request.NOTIFY, sender)
    assert owner.events() == []
    with pytest.raises(KernelBug, match=rf"BUG_ON\(irq < 0\).*port {port}"):
        owner.ioctl(Request.UNBIND, port)
    # The port stays open in Xen.
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
    # It is masked meanwhile, so the event waits for the next handle that binds the port.
    heir = File(kernel)
    heir.ioctl(Request.BIND_STATIC, port)
    assert heir.events() == [port]
    heir.release()
    assert port in kernel.domain.ports


def test_a_static_port_that_is_unbound_before_delivery_keeps_its_event() -> None:
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
    # The interrupts still run, but no write unmasks the ports.
    kernel.domain.unmask(receiver)
    for _ in range(2):
        kernel.domain.send(sender)
    assert file.events() == [receiver]
    file.write(pack_ports(receiver))
    assert file.events() == []
    with pytest.raises(KernelBug, match="evtchn_release: interrupts still go to freed memory"):
        file.release()


def test_the_driver_still_counts_the_ports_that_it_forgot(kernel: Kernel) -> None:
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

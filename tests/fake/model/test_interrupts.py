"""The model of the kernel: when a port's interrupt runs, and in which order."""

import pytest

from pyxenevtchn import Request, Virq
from pyxenevtchn.abi import pack_ports
from pyxenevtchn.fake.model.configuration import Abi

from .kernels import File, boot


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
    # With the FIFO ABI the number is free only when the kernel has taken it out of the queue.
    assert (file.ioctl(Request.BIND_UNBOUND_PORT, 0) == receiver) is free
    assert kernel.deliver() == 0
    assert file.events() == []
    file.ioctl(Request.NOTIFY, sender)
    if not free:
        assert file.ioctl(Request.BIND_UNBOUND_PORT, 0) == receiver


def test_the_2_level_abi_scans_in_a_circle_from_the_last_event() -> None:
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
    # The timer's interrupt comes first, and does not move the start of the scan.
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


def test_ports_that_are_unmasked_in_a_storm_stay_masked_until_it_is_over() -> None:
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


def test_a_port_that_is_unbound_in_a_storm_is_bound_again_masked() -> None:
    kernel = boot(delivery="manual")
    file = File(kernel)
    sender, port = file.connect()
    kernel.deliver(storm=True)
    file.write(pack_ports(port))
    file.ioctl(Request.UNBIND, port)
    assert file.ioctl(Request.BIND_INTERDOMAIN, 0, sender) == port
    assert kernel.deliver() == 1
    assert kernel.domain.ports[port].masked

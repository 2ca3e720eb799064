"""What the fake costs: nothing that grows with the number of ports, and little for each."""

import time
import tracemalloc
from collections.abc import Callable

import pytest

from pyxenevtchn import DOMID_SELF, EventChannel
from pyxenevtchn.fake import Hypervisor


def connect_many(channel: EventChannel, ports: int) -> list[int]:
    """Bind so many ports, connected in pairs, with nothing pending; return those that send."""
    senders = []
    for _ in range(ports // 2):
        senders.append(channel.bind_unbound_port(DOMID_SELF))
        channel.bind_interdomain(DOMID_SELF, senders[-1])
    while channel.poll(0):
        channel.unmask(channel.read())
    return senders


def test_a_bound_port_takes_600_bytes_at_most() -> None:
    ports = 20_000
    with Hypervisor().dom0.open() as channel:
        tracemalloc.start()
        connect_many(channel, ports)
        size, _ = tracemalloc.get_traced_memory()
        tracemalloc.stop()
    assert size / ports <= 600


def fastest(call: Callable[[], object]) -> float:
    """The least number of seconds that 200 calls took, of many tries."""
    times = []
    for _ in range(30):
        start = time.perf_counter()
        for _ in range(200):
            call()
        times.append(time.perf_counter() - start)
    return min(times)


@pytest.mark.parametrize(
    "operation",
    [
        lambda channel, sender: (channel.notify(sender), channel.unmask(channel.wait(0))),
        lambda channel, _sender: channel.unbind(channel.bind_unbound_port(0)),
    ],
    ids=["notify, wait, unmask", "bind, unbind"],
)
def test_an_operation_costs_the_same_however_many_ports_are_bound(
    operation: Callable[[EventChannel, int], object],
) -> None:
    costs = []
    for ports in (10, 100_000):
        with Hypervisor().dom0.open() as channel:
            senders = connect_many(channel, ports)
            costs.append(fastest(lambda: operation(channel, senders[len(senders) // 2])))  # noqa: B023 - called at once
    assert costs[1] < 3 * costs[0]

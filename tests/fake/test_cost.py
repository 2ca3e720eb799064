"""What a port of the fake costs: little memory. What it costs in time is for tools/bench."""

import tracemalloc

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

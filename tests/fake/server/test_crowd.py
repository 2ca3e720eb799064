"""How many clients the server can have."""

import contextlib

import pytest

from ...command import running_python
from ...limits import TIMEOUT
from .process import ServerProcess

CLIENT = """
import sys
from pyxenevtchn import EventChannel

name, ports = sys.argv[1], int(sys.argv[2])
with EventChannel.open(name) as channel:
    offered = [channel.bind_unbound_port(0x7FF0) for _ in range(ports // 2)]
    for port in offered:
        channel.bind_interdomain(0x7FF0, port)
    while channel.poll(0):
        channel.unmask(channel.read())
    print(len(channel.bindings), flush=True)
    sys.stdin.read()
    channel.notify_many(offered)
    seen = 0
    while seen < len(offered):
        ports = channel.wait(float(sys.argv[3]))
        assert ports
        channel.unmask(ports)
        seen += len(ports)
    print(seen)
"""


@pytest.mark.parametrize(("clients", "ports"), [(20, 200)])
def test_many_clients_with_many_ports_each(server: ServerProcess, clients: int, ports: int) -> None:
    with contextlib.ExitStack() as stack:
        processes = [
            stack.enter_context(
                running_python(CLIENT, server.name(100 + n), str(ports), str(TIMEOUT))
            )
            for n in range(clients)
        ]
        for process in processes:
            assert process.line() == str(ports)
        assert sum(not port.kernel for port in server.xen.ports(100)) == ports
        for process in processes:
            process.close_input()
        for process in processes:
            assert process.end() == (0, f"{ports // 2}\n", "")

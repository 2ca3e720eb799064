"""How many clients the server can have."""

import contextlib
import subprocess
import sys

import pytest

from .process import ServerProcess

TIMEOUT = 60.0

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
        ports = channel.wait(60)
        channel.unmask(ports)
        seen += len(ports)
    print(seen, flush=True)
    sys.stdin.close()
"""


@pytest.mark.parametrize(("clients", "ports"), [(20, 200)])
def test_many_clients_with_many_ports_each(server: ServerProcess, clients: int, ports: int) -> None:
    with contextlib.ExitStack() as stack:
        processes = [
            stack.enter_context(
                subprocess.Popen(
                    [sys.executable, "-c", CLIENT, server.name(100 + n), str(ports)],
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                )
            )
            for n in range(clients)
        ]
        for process in processes:
            assert process.stdout is not None
            assert int(process.stdout.readline()) == ports
        assert sum(not port.kernel for port in server.xen.ports(100)) == ports
        for process in processes:
            assert process.communicate(timeout=TIMEOUT)[0] == f"{ports // 2}\n".encode()
    for process in processes:
        assert process.returncode == 0

"""What the server costs: how long an exchange takes, and how many clients there can be."""

import contextlib
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from pyxenevtchn import EventChannel

from .process import ServerProcess

TIMEOUT = 60.0

ECHO = """
import socket, sys
with socket.socket(socket.AF_UNIX) as listener:
    listener.bind(sys.argv[1])
    listener.listen()
    print(flush=True)
    connection, _ = listener.accept()
with connection:
    while data := connection.recv(4096):
        connection.sendall(data)
"""


@pytest.fixture
def echo(tmp_path: Path) -> Iterator[socket.socket]:
    """A connection to a process that sends back what it gets, and nothing else."""
    path = str(tmp_path / "echo")
    with subprocess.Popen([sys.executable, "-c", ECHO, path], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        with socket.socket(socket.AF_UNIX) as connection:
            connection.connect(path)
            yield connection


def duration(call: Callable[[], object]) -> float:
    """How many seconds a call took, of a hundred."""
    start = time.perf_counter()
    for _ in range(100):
        call()
    return (time.perf_counter() - start) / 100


def test_an_event_from_client_to_client_takes_six_bare_echoes_at_most(
    server: ServerProcess, echo: socket.socket, capsys: pytest.CaptureFixture[str]
) -> None:
    """The event: notify by the one; poll, read and unmask by the other. Three exchanges."""
    with EventChannel.open(server.name()) as near, EventChannel.open(server.name(1)) as far:
        offered = near.bind_unbound_port(1)
        port = far.bind_interdomain(0, offered)
        far.unmask(far.wait(TIMEOUT))

        def event() -> None:
            near.notify(offered)
            far.poll(TIMEOUT)
            far.read()
            far.unmask(port)

        def bare() -> None:
            echo.sendall(b"notify 21\n")
            echo.recv(4096)

        # In turns, so that they see the same of what else the machine does.
        times = [(duration(event), duration(bare)) for _ in range(40)]
        events, bares = map(min, zip(*times, strict=True))
    with capsys.disabled():
        print(f"\nan event {events * 1e6:.1f} us, a bare echo {bares * 1e6:.1f} us")
    assert events <= 6 * bares


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

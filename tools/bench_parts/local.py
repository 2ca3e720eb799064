"""The cases that need no Xen: the fake compared with a socketpair, and the cost of starting up."""

import json
import os
import select
import socket
import subprocess
import sys
import tempfile
import tracemalloc
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from typing import IO

from bench_parts.measure import Result, Subject, compare, timed
from pyxenevtchn import DOMID_SELF, EventChannel
from pyxenevtchn.fake import Hypervisor

# How many ports' events come together.
_GROUP = 100

FAKE_MEMORY = "the fake's memory"
_MANY_PORTS = 20_000

COMMAND = str(Path(sys.executable).with_name("xenevtchn"))


def run(rounds: int) -> Iterator[Result]:
    """Run every case.

    Args:
        rounds: how many rounds to count of each.
    """
    yield from _fake(rounds)
    yield _memory()
    yield _shared_fake(rounds)
    yield _watch(rounds)
    yield compare(
        "import",
        "process",
        {
            "import pyxenevtchn": _process(sys.executable, "-c", "import pyxenevtchn"),
            "bare interpreter": _process(sys.executable, "-c", ""),
        },
        times=5,
        rounds=rounds,
    )
    yield compare(
        "start the command",
        "process",
        {
            "xenevtchn --version": _process(COMMAND, "--version"),
            "import click": _process(sys.executable, "-c", "import click"),
        },
        times=5,
        rounds=rounds,
    )


def _memory() -> Result:
    """Measure the fake's memory per port, which is the same in each run."""
    with Hypervisor().dom0.open() as channel:
        tracemalloc.start()
        for _ in range(_MANY_PORTS // 2):
            channel.bind_interdomain(DOMID_SELF, channel.bind_unbound_port(DOMID_SELF))
        while channel.poll(0):
            channel.unmask(channel.read())
        size, _ = tracemalloc.get_traced_memory()
        tracemalloc.stop()
    return Result(FAKE_MEMORY, "bound port", {"fake": size / _MANY_PORTS}, {}, measure="bytes")


def _fake(rounds: int) -> Iterator[Result]:
    send, receive = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    xen = Hypervisor()
    with closing(send), closing(receive), xen.dom0.open() as near, xen.dom0.open() as far:
        near_port = near.bind_unbound_port(DOMID_SELF)
        far_port = far.bind_interdomain(DOMID_SELF, near_port)
        far.unmask(far.wait())
        poller = select.poll()
        poller.register(receive, select.POLLIN)

        def cycle() -> None:
            near.notify(near_port)
            far.poll(1)
            far.read()
            far.unmask(far_port)

        def bare() -> None:
            send.send(b"\0")
            poller.poll(1000)
            receive.recv(16)

        for more in (0, 100_000):
            for _ in range(more):
                near.bind_unbound_port(DOMID_SELF)
            yield compare(
                f"the fake's cycle with {len(near.bindings):,} ports bound",
                "notify, poll, read, unmask",
                {"fake": timed(cycle), "socketpair": timed(bare)},
                times=5000,
                rounds=rounds,
            )
            yield compare(
                f"the fake's bind and unbind with {len(near.bindings):,} ports bound",
                "bind, unbind",
                {"fake": timed(lambda: near.unbind(near.bind_unbound_port(DOMID_SELF)))},
                times=5000,
                rounds=rounds,
            )


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


def _shared_fake(rounds: int) -> Result:
    """Time an event between two clients of the shared fake, and an echo of plain sockets."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="bench-")))
        stack.enter_context(on_one_cpu())
        stack.enter_context(started(COMMAND, "fake", "serve", "--socket", str(folder / "xen")))
        stack.enter_context(started(sys.executable, "-c", ECHO, str(folder / "echo")))
        echo = stack.enter_context(socket.socket(socket.AF_UNIX))
        echo.connect(str(folder / "echo"))
        near = stack.enter_context(EventChannel.open(f"fake:unix:{folder / 'xen'}"))
        far = stack.enter_context(EventChannel.open(f"fake:unix:{folder / 'xen'}?domid=1"))
        near_port = near.bind_unbound_port(1)
        far_port = far.bind_interdomain(0, near_port)
        far.unmask(far.wait())

        def event() -> None:
            near.notify(near_port)
            far.poll(1)
            far.read()
            far.unmask(far_port)

        def bare() -> None:
            echo.send(b"notify 21\n")
            echo.recv(4096)

        return compare(
            "an event on the shared fake",
            "notify, poll, read, unmask: three exchanges",
            {"shared fake": timed(event), "echo": timed(bare)},
            times=2000,
            rounds=rounds,
        )


def _watch(rounds: int) -> Result:
    """Time the lines of `watch --json` for events that come a hundred at a time."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="bench-")))
        device = f"fake:unix:{folder / 'xen'}"
        stack.enter_context(started(COMMAND, "fake", "serve", "--socket", str(folder / "xen")))
        sources = ["--unbound", "self"] * _GROUP
        command = [COMMAND, "--device", device, "watch", "--json", "--banner", *sources]
        first, lines = stack.enter_context(started(*command))
        banner = [first, *(lines.readline() for _ in range(_GROUP - 1))]
        channel = stack.enter_context(EventChannel.open(device))
        ports = [channel.bind_interdomain(DOMID_SELF, json.loads(line)["port"]) for line in banner]

        def burst() -> None:
            channel.notify_many(ports)
            for _ in ports:
                lines.readline()

        nanoseconds = timed(burst)
        return compare(
            f"watch --json, {_GROUP} ports",
            "event",
            {"shared fake": lambda times: nanoseconds(times) / _GROUP},
            times=100,
            rounds=rounds,
        )


@contextmanager
def on_one_cpu() -> Iterator[None]:
    """Keep this process and its children on one CPU.

    Otherwise the scheduler puts one pair of processes on one core and another pair on two, and
    waking a core takes longer than everything that is compared.
    """
    everywhere = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(everywhere)})
    try:
        yield
    finally:
        os.sched_setaffinity(0, everywhere)


@contextmanager
def started(*command: str) -> Iterator[tuple[bytes, IO[bytes]]]:
    """Run a program that writes a line when it is ready; yield that line and its output."""
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
        try:
            first = process.stdout.readline() if process.stdout else b""
            if not (first and process.stdout):
                raise RuntimeError(f"{command[0]} did not start")
            yield first, process.stdout
        finally:
            process.terminate()


def _process(*command: str) -> Subject:
    # With cached bytecode, as an installed package has it.
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"}
    return timed(
        lambda: subprocess.run(command, check=True, stdout=subprocess.DEVNULL, env=environment)
    )

"""The cases that need no Xen: the fake beside a socketpair, and what starting up costs."""

import select
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

from bench_parts.measure import Result, Subject, compare, timed
from pyxenevtchn import DOMID_SELF
from pyxenevtchn.fake import Hypervisor

COMMAND = str(Path(sys.executable).with_name("xenevtchn"))


def run(rounds: int) -> Iterator[Result]:
    """Run every case.

    Args:
        rounds: how many rounds to count of each.
    """
    yield from _fake(rounds)
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


def _fake(rounds: int) -> Iterator[Result]:
    send, receive = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    xen = Hypervisor()
    with closing(send), closing(receive), xen.dom0.open() as near, xen.dom0.open() as far:
        near_port = near.bind_unbound_port(DOMID_SELF)
        far_port = far.bind_interdomain(DOMID_SELF, near_port, drain=True)
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


def _process(*command: str) -> Subject:
    return timed(lambda: subprocess.run(command, check=True, stdout=subprocess.DEVNULL))

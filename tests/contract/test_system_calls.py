"""How many system calls a burst of events takes, as counted by strace."""

import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

import pytest

from ..conftest import DEVICE_NODE

pytestmark = pytest.mark.backends("real")

PROGRAM = """
import os, select, sys
from pyxenevtchn import DOMID_SELF, EventChannel

with EventChannel.open(sys.argv[1]) as channel, EventChannel.open(sys.argv[1]) as fence:
    near = [channel.bind_unbound_port(DOMID_SELF) for _ in range(1000)]
    for port in near:
        channel.bind_interdomain(DOMID_SELF, port)
    last = fence.bind_unbound_port(DOMID_SELF)
    fence.bind_interdomain(DOMID_SELF, last)
    left = 1000
    for _ in channel.events():
        left -= 1
        if not left:
            break
    fence.unmask(fence.wait())
    channel.notify_many(near)
    fence.notify(last)
    fence.poll()
    os.getppid()
    seen = 0
    for _ in channel.events():
        seen += 1
        if seen == 1000:
            break
    os.getppid()
"""


def test_a_burst_over_1000_ports_takes_four(
    backend: str, tmp_path: Path, unavailable: Callable[[str], NoReturn]
) -> None:
    if not shutil.which("strace"):
        unavailable("needs strace")
    log = tmp_path / "strace"
    # The thousands of ioctl calls are those of binding, not of the loop: without them it is faster.
    strace: list[str | Path] = ["strace", "-f", "--seccomp-bpf", "-e", "trace=!ioctl", "-o", log]
    subprocess.run([*strace, sys.executable, "-c", PROGRAM, DEVICE_NODE], check=True, timeout=300)
    burst = re.split(r"^\d+ +getppid.*\n", log.read_text(), flags=re.MULTILINE)[1]
    calls = [line.split("(")[0] for line in burst.splitlines()]
    assert len(calls) <= 4, burst
    assert backend == "real"

"""A C program on the preloaded device, compared with plain sockets and with itself without it."""

import os
import shutil
import socket
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, closing
from pathlib import Path

from bench_parts.local import COMMAND, ECHO, on_one_cpu, started
from bench_parts.measure import Result, compare, timed
from bench_parts.subjects import CLibrary, compile_c
from pyxenevtchn.fake.preload import environment

CYCLE = "an event on the preloaded device"
OPEN = "opening the preloaded device"
READ = "reading another file with the preloaded device"


def run(rounds: int) -> Iterator[Result]:
    """Run every case, if there is a C compiler and the C library.

    Args:
        rounds: how many rounds to count of each.
    """
    if not (shutil.which("cc") and Path("/usr/include/xenevtchn.h").exists()):
        print("\nno cc or libxen-dev: nothing is measured in C", file=sys.stderr)
        return
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="bench-")))
        program = compile_c("device", folder)
        stack.enter_context(on_one_cpu())
        stack.enter_context(started(COMMAND, "fake", "serve", "--socket", str(folder / "xen")))
        stack.enter_context(started(sys.executable, "-c", ECHO, str(folder / "echo")))
        echo = stack.enter_context(socket.socket(socket.AF_UNIX))
        echo.connect(str(folder / "echo"))
        variables = environment(os.environ, str(folder / "xen"), 0)
        served = stack.enter_context(closing(CLibrary(program, "connected", env=variables)))
        plain = stack.enter_context(closing(CLibrary(program)))

        def three_echoes() -> None:
            for _ in range(3):
                echo.send(b"notify 21\n")
                echo.recv(4096)

        yield compare(
            CYCLE,
            "notify, poll, pending, unmask: three exchanges",
            {"C library": served.subject("cycle"), "three echoes": timed(three_echoes)},
            times=2000,
            rounds=rounds,
        )
        yield compare(
            OPEN, "open, close", {"C library": served.subject("open")}, times=100, rounds=rounds
        )
        yield compare(
            READ,
            "read",
            {"with": served.subject("read"), "without": plain.subject("read")},
            times=200_000,
            rounds=rounds,
        )

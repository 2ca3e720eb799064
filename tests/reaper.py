"""Kill the processes that the tests started, after the tests' process has ended in any way.

Each process that the tests start inherits a variable in its environment. A separate process, the
reaper, reads a pipe that is never written to. The pipe ends with the tests' process, even after
SIGKILL; then the reaper kills each process that has the variable.

The tests' process starts this file as a program.
"""

import contextlib
import os
import secrets
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

_VARIABLE = "PYXENEVTCHN_TESTS"

# How long to kill processes, in seconds: longer than a process takes to die, unless the kernel
# cannot end it.
_TIMEOUT = 30.0


class Reaper:
    """A pytest plugin: a process that is started from now on ends with this one at the latest."""

    def __init__(self) -> None:
        # A worker of xdist has the mark of the process that started it.
        self._before = os.environ.pop(_VARIABLE, None)
        mark = secrets.token_hex(8)
        # In a session of its own, so that it gets no signal to the tests' process group.
        self._process = subprocess.Popen(
            [sys.executable, "-I", "-S", __file__, mark],
            stdin=subprocess.PIPE,
            start_new_session=True,
        )
        assert self._process.stdin
        # A child that os.fork() makes must not keep the pipe open.
        os.register_at_fork(after_in_child=self._process.stdin.close)
        os.environ[_VARIABLE] = mark

    def pytest_unconfigure(self) -> None:
        del os.environ[_VARIABLE]
        if self._before is not None:
            os.environ[_VARIABLE] = self._before
        self._process.communicate(timeout=2 * _TIMEOUT)


def _marked(mark: str) -> Iterator[int]:
    """Yield the processes that have the mark."""
    wanted = f"{_VARIABLE}={mark}".encode()
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):  # the process is another user's, or has ended
            if wanted in (folder / "environ").read_bytes().split(b"\0"):
                yield int(folder.name)


def main() -> None:
    """Wait for the end of standard input; then kill the processes with the mark in argv."""
    sys.stdin.buffer.read()
    deadline = time.monotonic() + _TIMEOUT
    # Repeatedly: a process may have started another one before it was killed.
    while (found := list(_marked(sys.argv[1]))) and time.monotonic() < deadline:
        for pid in found:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)


if __name__ == "__main__":
    main()

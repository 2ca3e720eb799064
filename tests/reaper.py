"""Kills what the tests have started, once their process has ended, however it ended.

Whatever the tests start has a variable in its environment, and so has whatever that starts. A
process beside the tests, the reaper, reads a pipe to which nobody writes. The pipe ends with the
tests' process, even after SIGKILL; then the reaper kills everything that has the variable.

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

# Longer than a process takes to die, unless the kernel cannot end it.
_PATIENCE = 30.0


class Reaper:
    """A plugin of pytest: what this process starts from now on ends with it at the latest."""

    def __init__(self) -> None:
        # A process of xdist has the mark of the one that has started it.
        self._before = os.environ.pop(_VARIABLE, None)
        mark = secrets.token_hex(8)
        # In a session of its own: no signal to the tests' process group is for it.
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
        self._process.communicate(timeout=2 * _PATIENCE)


def _marked(mark: str) -> Iterator[int]:
    """Go through the living processes that have the mark."""
    wanted = f"{_VARIABLE}={mark}".encode()
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):  # it is another user's, or it has ended
            if wanted in (folder / "environ").read_bytes().split(b"\0"):
                yield int(folder.name)


def main() -> None:
    """Wait for the end of standard input; kill what has the mark that is the argument."""
    sys.stdin.buffer.read()
    deadline = time.monotonic() + _PATIENCE
    # Again and again: what is killed may have started something meanwhile.
    while (found := list(_marked(sys.argv[1]))) and time.monotonic() < deadline:
        for pid in found:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)


if __name__ == "__main__":
    main()

"""The installed command, run as people run it: a process, on pipes or on a terminal."""

import os
import select
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import NamedTuple

COMMAND = str(Path(sys.executable).with_name("xenevtchn"))

# For shells, which find the command there.
PATH = f"{Path(COMMAND).parent}:{os.environ['PATH']}"

# Far longer than anything here takes, on an emulated machine too: what lasts so long has failed.
# A test's own limit is longer.
TIMEOUT = 45.0

Argument = str | bytes | os.PathLike[str]


class Ended(NamedTuple):
    """A process that has ended.

    Attributes:
        status: its exit status, or a signal's number negated.
        output: what was not read yet of its standard output, or of its terminal.
        errors: its standard error, if that is not the terminal.
    """

    status: int
    output: str
    errors: str


class Running:
    """A process that runs."""

    def __init__(self, process: "subprocess.Popen[bytes]", output: int) -> None:
        self.process = process
        self._output = output
        self._read = b""

    def line(self) -> str:
        """Return the next line that it writes, without its end."""
        return self.until("\n").rstrip("\r\n")

    def until(self, text: str) -> str:
        """Return what it writes until it has written this text."""
        wanted = text.encode()
        while wanted not in self._read:
            more = self._more()
            assert more, f"no {text!r} came, but {self._read!r} and then the end"
        found, _, self._read = self._read.partition(wanted)
        return (found + wanted).decode(errors="surrogateescape")

    def error_line(self) -> str:
        """Return the next line of its standard error, without its end."""
        assert self.process.stderr is not None
        return self.process.stderr.readline().decode().rstrip("\n")

    def type(self, text: str) -> None:
        """Type on its terminal."""
        os.write(self._output, text.encode())

    def signal(self, number: int) -> None:
        """Send it a signal."""
        self.process.send_signal(number)

    def interrupt(self) -> Ended:
        """Send it what Ctrl-C does, and wait for its end."""
        self.signal(signal.SIGINT)
        return self.end()

    def end(self) -> Ended:
        """Wait until it has ended."""
        while more := self._more():
            del more
        status = self.process.wait(TIMEOUT)
        stderr = self.process.stderr
        errors = stderr.read().decode(errors="surrogateescape") if stderr else ""
        output, self._read = self._read.decode(errors="surrogateescape"), b""
        return Ended(status, output, errors)

    def _more(self) -> bytes:
        poller = select.poll()
        poller.register(self._output, select.POLLIN)
        assert poller.poll(TIMEOUT * 1000), f"nothing came after {self._read!r}"
        more = b""
        with suppress(OSError):  # EIO: everybody has closed the terminal
            more = os.read(self._output, 1 << 16)
        self._read += more
        return more


def environment(device: str, more: Mapping[str, str] | None = None) -> dict[str, str]:
    """Return the environment of a user who has the device's name in it, and nothing special."""
    odd = {"NO_COLOR", "PYTHONUNBUFFERED", "PYTHONWARNINGS"}
    mine = {name: value for name, value in os.environ.items() if name not in odd}
    return {**mine, "XENEVTCHN_DEVICE": device, "TERM": "xterm", **(more or {})}


def run(
    *arguments: Argument, device: str = "fake:", more: Mapping[str, str] | None = None
) -> "subprocess.CompletedProcess[str]":
    """Run the command to its end; nobody is at its standard input."""
    return subprocess.run(
        [COMMAND, *arguments],
        env=environment(device, more),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        errors="surrogateescape",
        timeout=TIMEOUT,
        check=False,
    )


def shell(
    script: str, *, device: str = "fake:", more: Mapping[str, str] | None = None
) -> "subprocess.CompletedProcess[str]":
    """Run a script, in which xenevtchn is the command."""
    return subprocess.run(
        ["bash", "-c", script],
        env=environment(device, {"PATH": PATH, **(more or {})}),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        errors="surrogateescape",
        timeout=TIMEOUT,
        check=False,
    )


@contextmanager
def running(
    *arguments: Argument,
    device: str = "fake:",
    more: Mapping[str, str] | None = None,
    program: str = COMMAND,
) -> Iterator[Running]:
    """Start the command, or another program, on pipes; kill it if it has not ended."""
    with subprocess.Popen(
        [program, *arguments],
        env=environment(device, more),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        bufsize=0,
    ) as process:
        assert process.stdout is not None
        with _killed(process):
            yield Running(process, process.stdout.fileno())


@contextmanager
def on_terminal(
    *arguments: Argument,
    device: str = "fake:",
    more: Mapping[str, str] | None = None,
    program: str = COMMAND,
) -> Iterator[Running]:
    """Start the command, or another program, on a terminal of its own."""
    ours, theirs = os.openpty()

    try:
        with subprocess.Popen(
            [program, *arguments],
            env=environment(device, {"PATH": PATH, **(more or {})}),
            preexec_fn=lambda: os.login_tty(theirs),  # noqa: PLW1509 - no other thread runs
        ) as process:
            os.close(theirs)
            with _killed(process):
                yield Running(process, ours)
    finally:
        os.close(ours)


@contextmanager
def _killed(process: "subprocess.Popen[bytes]") -> Iterator[None]:
    try:
        yield
    finally:
        if process.poll() is None:
            process.kill()

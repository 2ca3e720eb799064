"""The installed command, run as people run it: a process, on pipes or on a terminal."""

import os
import select
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, suppress
from pathlib import Path
from typing import NamedTuple

from .concurrency import until_process_asleep
from .limits import TIMEOUT

COMMAND = str(Path(sys.executable).with_name("xenevtchn"))

# For shells, which find the command there.
PATH = f"{Path(COMMAND).parent}:{os.environ['PATH']}"

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


class Stream:
    """What a process writes.

    Attributes:
        timeout: how many seconds may pass without any of it.
    """

    def __init__(self, fd: int) -> None:
        self.timeout = TIMEOUT
        self._fd = fd
        self._read = b""

    def until(self, text: str) -> str:
        """Return what is written until this text has been."""
        wanted = text.encode()
        while wanted not in self._read:
            assert self._more(), f"no {text!r} came, but {self._read!r} and then the end"
        return self._take(self._read.index(wanted) + len(wanted))

    def line_or_rest(self) -> str:
        """Return the next line, or what is written until the end where that comes first."""
        while b"\n" not in self._read and self._more():
            pass
        return self._take(self._read.find(b"\n") + 1 or len(self._read))

    def rest(self) -> str:
        """Return what is written until the end."""
        while self._more():
            pass
        return self._take(len(self._read))

    def type(self, text: str) -> None:
        """Type, where it is a terminal."""
        os.write(self._fd, text.encode())

    def _take(self, length: int) -> str:
        taken, self._read = self._read[:length], self._read[length:]
        return taken.decode(errors="surrogateescape")

    def _more(self) -> bool:
        poller = select.poll()
        poller.register(self._fd, select.POLLIN)
        assert poller.poll(self.timeout * 1000), f"nothing came after {self._read!r}"
        more = b""
        with suppress(OSError):  # EIO: everybody has closed the terminal
            more = os.read(self._fd, 1 << 16)
        self._read += more
        return bool(more)


class Running:
    """A process that runs.

    Attributes:
        process: the process.
        output: its standard output, or its terminal.
    """

    def __init__(self, process: "subprocess.Popen[bytes]", output: int) -> None:
        self.process = process
        self.output = Stream(output)
        self._errors = process.stderr and Stream(process.stderr.fileno())

    def line(self) -> str:
        """Return the next line that it writes, without its end."""
        return self.until("\n").rstrip("\r\n")

    def until(self, text: str) -> str:
        """Return what it writes until it has written this text."""
        return self.output.until(text)

    def error_line(self) -> str:
        """Return the next line of its standard error, without its end."""
        assert self._errors
        return self._errors.until("\n").rstrip("\n")

    def type(self, text: str) -> None:
        """Type on its terminal."""
        self.output.type(text)

    def write(self, text: str) -> None:
        """Write to its standard input."""
        assert self.process.stdin
        self.process.stdin.write(text.encode())

    def close_input(self) -> None:
        """End its standard input."""
        assert self.process.stdin
        self.process.stdin.close()

    def signal(self, number: int) -> None:
        """Send it a signal."""
        self.process.send_signal(number)

    def interrupt(self) -> Ended:
        """Send it what Ctrl-C does, and wait for its end.

        It comes as the process waits: what comes just before a call into C may be heard after it.
        """
        until_process_asleep(self.process)
        self.signal(signal.SIGINT)
        return self.end()

    def end(self) -> Ended:
        """Wait until it has ended."""
        output = self.output.rest()
        status = self.process.wait(TIMEOUT)
        return Ended(status, output, self._errors.rest() if self._errors else "")


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
    program: Argument = COMMAND,
    stdin: int = subprocess.DEVNULL,
) -> Iterator[Running]:
    """Start the command, or another program, on pipes; kill it if it has not ended."""
    with subprocess.Popen(
        [program, *arguments],
        env=environment(device, more),
        stdin=stdin,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        bufsize=0,
    ) as process:
        assert process.stdout is not None
        with _killed(process):
            yield Running(process, process.stdout.fileno())


def running_python(text: str, *arguments: Argument) -> AbstractContextManager[Running]:
    """Start a program of Python, whose standard input is a pipe; kill it if it has not ended."""
    return running("-c", text, *arguments, program=sys.executable, stdin=subprocess.PIPE)


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
            ["setsid", "--ctty", program, *arguments],
            env=environment(device, {"PATH": PATH, **(more or {})}),
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
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

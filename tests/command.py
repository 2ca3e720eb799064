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
        status: its exit status, or the negated number of the signal that ended it.
        output: the rest of its standard output, or of its terminal, that was not read before.
        errors: its standard error; empty if that is the terminal.
    """

    status: int
    output: str
    errors: str


class Stream:
    """The output of a process.

    Attributes:
        timeout: how many seconds to wait for more of it.
    """

    def __init__(self, fd: int) -> None:
        self.timeout = TIMEOUT
        self._fd = fd
        self._read = b""

    def until(self, text: str) -> str:
        """Read up to and including a text; return what was read."""
        wanted = text.encode()
        while wanted not in self._read:
            assert self._more(), f"the output ended before {text!r}, after {self._read!r}"
        return self._take(self._read.index(wanted) + len(wanted))

    def line_or_rest(self) -> str:
        """Return the next line, or the rest if the output ends before the line does."""
        while b"\n" not in self._read and self._more():
            pass
        return self._take(self._read.find(b"\n") + 1 or len(self._read))

    def rest(self) -> str:
        """Read to the end of the output; return what was read."""
        while self._more():
            pass
        return self._take(len(self._read))

    def type(self, text: str) -> None:
        """Type a text, if this is a terminal."""
        os.write(self._fd, text.encode())

    def _take(self, length: int) -> str:
        taken, self._read = self._read[:length], self._read[length:]
        return taken.decode(errors="surrogateescape")

    def _more(self) -> bool:
        poller = select.poll()
        poller.register(self._fd, select.POLLIN)
        assert poller.poll(self.timeout * 1000), f"no more output after {self._read!r}"
        more = b""
        with suppress(OSError):  # EIO: no process has the terminal open any more
            more = os.read(self._fd, 1 << 16)
        self._read += more
        return bool(more)


class Running:
    """A running process.

    Attributes:
        process: the process.
        output: its standard output, or its terminal.
    """

    def __init__(self, process: "subprocess.Popen[bytes]", output: int) -> None:
        self.process = process
        self.output = Stream(output)
        self._errors = process.stderr and Stream(process.stderr.fileno())

    def line(self) -> str:
        """Return the next line of its output, without the line's end."""
        return self.until("\n").rstrip("\r\n")

    def until(self, text: str) -> str:
        """Read its output up to and including a text; return what was read."""
        return self.output.until(text)

    def error_line(self) -> str:
        """Return the next line of its standard error, without the line's end."""
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
        """Close its standard input."""
        assert self.process.stdin
        self.process.stdin.close()

    def signal(self, number: int) -> None:
        """Send it a signal."""
        self.process.send_signal(number)

    def interrupt(self) -> Ended:
        """Send it the signal of Ctrl-C, and wait for its end.

        The signal is sent while the process sleeps: Python may handle a signal that comes just
        before a call into C only after the call.
        """
        until_process_asleep(self.process)
        self.signal(signal.SIGINT)
        return self.end()

    def end(self) -> Ended:
        """Wait for its end."""
        output = self.output.rest()
        status = self.process.wait(TIMEOUT)
        return Ended(status, output, self._errors.rest() if self._errors else "")


def process_name(pid: int | str = "self") -> str:
    """Return the name of a process."""
    return Path(f"/proc/{pid}/comm").read_text().rstrip("\n")


def environment(device: str, more: Mapping[str, str] | None = None) -> dict[str, str]:
    """Return a user's usual environment, with the device's name in it.

    Variables that change what a command prints are left out.
    """
    unusual = {"NO_COLOR", "PYTHONUNBUFFERED", "PYTHONWARNINGS"}
    mine = {name: value for name, value in os.environ.items() if name not in unusual}
    return {**mine, "XENEVTCHN_DEVICE": device, "TERM": "xterm", **(more or {})}


def run(
    *arguments: Argument, device: str = "fake:", more: Mapping[str, str] | None = None
) -> "subprocess.CompletedProcess[str]":
    """Run the command to its end, with an empty standard input."""
    return _run([COMMAND, *arguments], environment(device, more))


def shell(
    script: str, *, device: str = "fake:", more: Mapping[str, str] | None = None
) -> "subprocess.CompletedProcess[str]":
    """Run a shell script; it finds the command as ``xenevtchn``."""
    return _run(["bash", "-c", script], environment(device, {"PATH": PATH, **(more or {})}))


def _run(command: list[Argument], env: dict[str, str]) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        command,
        env=env,
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
    """Start a Python program with a pipe as standard input; kill it if it has not ended."""
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

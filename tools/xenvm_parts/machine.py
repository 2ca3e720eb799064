"""The emulated machine: QEMU with Xen, dom0 and the host's files, run to its end."""

import contextlib
import os
import re
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from io import FileIO
from pathlib import Path

from . import console, programs
from .errors import BootFailure, Death, Failure, TimeLimit
from .progress import warn

# How often to look for the command's output, in seconds.
_TICK = 0.05

# The file that init.sh creates when it starts the command.
_STARTED = "started"

# An emulated PV kernel sometimes dies during boot, of a timer interrupt that comes late.
_BOOTS = 3

# In seconds. A boot takes 10 to 60 on an idle machine with two processors; a longer one hangs.
_BOOT_LIMIT = 240

# QEMU's own memory, besides the machine's, in MiB.
_OVERHEAD = 200


@dataclass(frozen=True, slots=True)
class Machine:
    """A machine to boot.

    Attributes:
        emulator: QEMU's program.
        options: its arguments, which name files by their names in its working directory.
        files: the files in that directory, by name: paths of the host, or contents.
        memory: the machine's memory, in MiB.
        console: where to keep the console's log; None drops it.
    """

    emulator: str
    options: Sequence[str]
    files: Mapping[str, Path | bytes]
    memory: int
    console: Path | None

    def run(self, seconds: float) -> tuple[int, list[str]]:
        """Run the machine, and write the command's output to this process's.

        A machine that fails before the command starts boots again.

        Returns:
            The command's exit status, and the console's warnings since it started.

        Raises:
            TimeLimit: the machine still ran after that many seconds.
            Death: it ended while the command ran.
            BootFailure: no boot reached the command.

        """
        _check_memory(self.memory + _OVERHEAD)
        deadline = time.monotonic() + seconds
        for _ in range(_BOOTS - 1):
            try:
                return self._boot(deadline)
            except BootFailure as failure:
                warn(f"{failure}\nBooting again.")
        return self._boot(deadline)

    def _boot(self, deadline: float) -> tuple[int, list[str]]:
        """Run the machine once, until the deadline at most."""
        with tempfile.TemporaryDirectory(prefix="xenvm-") as name:
            directory = Path(name)
            self._prepare(directory)
            results = directory / "results"
            with _qemu(directory, self.emulator, self._arguments()) as qemu:
                _follow(qemu, results, deadline)
            with contextlib.suppress(FileNotFoundError):
                status = int((results / "status").read_text())
                return status, console.warnings(directory / "console")
            started = (results / _STARTED).exists()
            last = (
                f"{(directory / 'qemu.log').read_text()}"
                f"The console's last lines:\n{console.tail(directory / 'console')}"
            )
        if time.monotonic() >= deadline:
            raise TimeLimit(f"the time limit was reached. {last}")
        if started:
            raise Death(f"the machine died while the command ran. {last}")
        raise BootFailure(f"the machine died or hung before the command started. {last}")

    def _prepare(self, directory: Path) -> None:
        """Lay out the files that QEMU opens, by short names: commas in its options are special."""
        (directory / "results").mkdir()
        for stream in ("stdout", "stderr"):
            (directory / "results" / stream).touch()
        for name, file in self.files.items():
            if isinstance(file, bytes):
                (directory / name).write_bytes(file)
            else:
                (directory / name).symlink_to(file)
        if self.console:
            (directory / "console").symlink_to(self.console)

    def _arguments(self) -> list[str]:
        return [
            *("-nodefaults", "-no-reboot", "-display", "none", "-serial", "file:console"),
            *("-m", str(self.memory), *self.options),
        ]


def shared_directories(files: Mapping[str, Path | bytes]) -> Iterator[tuple[str, str]]:
    """Yield the tags of the directories that the machine sees, and what -fsdev says of each."""
    yield "host", "local,path=/,security_model=none,readonly=on,multidevs=remap"
    yield "results", "local,path=results,security_model=none"
    if "share" in files:
        yield "share", "local,path=share,security_model=none,multidevs=remap"


def _check_memory(needed: int) -> None:
    """Raise Failure if the host has less free memory than needed, in MiB."""
    match = re.search(r"^MemAvailable: +(\d+) kB", Path("/proc/meminfo").read_text(), re.MULTILINE)
    if match and int(match[1]) >> 10 < needed:
        raise Failure(
            f"the machine needs {needed} MB of memory and {int(match[1]) >> 10} MB are free: "
            "end other programs first"
        )


@contextlib.contextmanager
def _qemu(
    directory: Path, emulator: str, arguments: list[str]
) -> Iterator[subprocess.Popen[bytes]]:
    """Run QEMU; kill it at the end, however this process ends."""
    with (directory / "qemu.log").open("wb") as log:
        qemu = subprocess.Popen(
            [
                programs.find("setpriv"),
                "--pdeathsig=KILL",
                "--",
                programs.find(emulator),
                *arguments,
            ],
            cwd=directory,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            # Ctrl-C must reach this process alone.
            process_group=0,
        )
    try:
        yield qemu
    finally:
        qemu.kill()
        qemu.wait()


def _follow(qemu: subprocess.Popen[bytes], results: Path, deadline: float) -> None:
    """Pass on the command's output, until QEMU ends, the deadline, or a boot takes too long."""
    boot_deadline = time.monotonic() + _BOOT_LIMIT
    with FileIO(results / "stdout") as stdout, FileIO(results / "stderr") as stderr:
        ended = False
        while not ended and time.monotonic() < deadline:
            if time.monotonic() > boot_deadline and not (results / _STARTED).exists():
                break
            with contextlib.suppress(subprocess.TimeoutExpired):
                qemu.wait(_TICK)
                ended = True
            # Once more after the end, so that nothing is missed.
            _forward(stdout, 1)
            _forward(stderr, 2)


def _forward(source: FileIO, descriptor: int) -> None:
    """Write what was added to a file since it was last read."""
    while chunk := source.read(1 << 16):
        while chunk:
            chunk = chunk[os.write(descriptor, chunk) :]

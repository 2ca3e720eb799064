"""The emulated machine: QEMU with Xen, dom0 and the host's root, followed to its end."""

import contextlib
import os
import subprocess
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from io import FileIO
from pathlib import Path

from . import console, programs
from .errors import BootFailure, Death, TimeLimit
from .progress import warn

# How often the command's output is looked for.
_TICK = 0.05

# What init.sh leaves when it starts the command.
_STARTED = "started"

# An emulated PV kernel dies while it boots, now and then: of a timer's interrupt that comes late.
_BOOTS = 3

# dom0's console goes to Xen's ring, too: whoever writes to /dev/hvc0 makes Xen raise VIRQ_CON_RING.
_XEN_LINE = "console=com1 com1=115200,8n1 dom0_mem=2250M loglvl=warning console_to_ring"
# dom0's warnings reach the console, its other messages do not; a panic ends the machine.
_LINUX_LINE = "console=hvc0 rdinit=/init loglevel=5 panic=-1"


@dataclass(frozen=True, slots=True)
class Machine:
    """What boots.

    Attributes:
        xen: the hypervisor.
        kernel: dom0's kernel.
        initramfs: dom0's first root, which runs the command.
        processors: how many the machine has.
        share: the host's directory that the guest may write to, if any.
        console: where the console's log stays; None drops it.

    """

    xen: Path
    kernel: Path
    initramfs: bytes
    processors: int
    share: Path | None
    console: Path | None

    def run(self, seconds: float) -> tuple[int, list[str]]:
        """Run the machine, its command's output being this process's.

        A machine that dies before the command starts boots again.

        Returns:
            The command's exit status, and the console's warnings since it started.

        Raises:
            TimeLimit: the machine still ran after that many seconds.
            Death: it ended while the command ran.
            BootFailure: no boot came as far as the command.

        """
        deadline = time.monotonic() + seconds
        for _ in range(_BOOTS - 1):
            try:
                return self._boot(deadline)
            except BootFailure as failure:
                warn(f"{failure}\nIt boots again.")
        return self._boot(deadline)

    def _boot(self, deadline: float) -> tuple[int, list[str]]:
        """Run the machine once, until the deadline at most."""
        with tempfile.TemporaryDirectory(prefix="xenvm-") as name:
            directory = Path(name)
            self._prepare(directory)
            results = directory / "results"
            with _qemu(directory, self._options()) as qemu:
                in_time = _follow(qemu, results, deadline)
            with contextlib.suppress(FileNotFoundError):
                status = int((results / "status").read_text())
                return status, console.warnings(directory / "console")
            started = (results / _STARTED).exists()
            last = (
                f"{(directory / 'qemu.log').read_text()}"
                f"The console's last lines:\n{console.tail(directory / 'console')}"
            )
        if not in_time:
            raise TimeLimit(f"the time limit was reached. {last}")
        if started:
            raise Death(f"the machine died while the command ran. {last}")
        raise BootFailure(f"the machine died before the command started. {last}")

    def _prepare(self, directory: Path) -> None:
        """Lay out what QEMU opens; by short names, since its options give commas a meaning."""
        (directory / "xen").symlink_to(self.xen)
        (directory / "linux").symlink_to(self.kernel)
        (directory / "initramfs").write_bytes(self.initramfs)
        if self.share:
            (directory / "share").symlink_to(self.share)
        if self.console:
            (directory / "console").symlink_to(self.console)
        (directory / "results").mkdir()
        for stream in ("stdout", "stderr"):
            (directory / "results" / stream).touch()

    def _options(self) -> list[str]:
        """Return QEMU's arguments, its paths relative to the directory laid out for it."""
        host = "local,path=/,mount_tag=host,security_model=none,readonly=on,multidevs=remap"
        results = "local,path=results,mount_tag=results,security_model=none"
        share = "local,path=share,mount_tag=share,security_model=none,multidevs=remap"
        return [
            *("-nodefaults", "-no-reboot", "-display", "none"),
            # QEMU 7.2 emulates SMAP so that a PV dom0 dies of its first page fault.
            *("-accel", "tcg,thread=multi", "-cpu", "max,smap=off"),
            *("-m", "2500", "-smp", str(self.processors)),
            *("-serial", "file:console"),
            *("-kernel", "xen", "-append", _XEN_LINE),
            *("-initrd", f"linux {_LINUX_LINE},initramfs"),
            *("-virtfs", host, "-virtfs", results),
            *(("-virtfs", share) if self.share else ()),
        ]


@contextlib.contextmanager
def _qemu(directory: Path, options: list[str]) -> Iterator[subprocess.Popen[bytes]]:
    """Start QEMU; at the end it is gone, however this process ends."""
    emulator = programs.find("qemu-system-x86_64")
    with (directory / "qemu.log").open("wb") as log:
        qemu = subprocess.Popen(
            [programs.find("setpriv"), "--pdeathsig=KILL", "--", emulator, *options],
            cwd=directory,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            # Ctrl-C is this process's to answer.
            process_group=0,
        )
    try:
        yield qemu
    finally:
        qemu.kill()
        qemu.wait()


def _follow(qemu: subprocess.Popen[bytes], results: Path, deadline: float) -> bool:
    """Pass the command's output on until QEMU ends; tell whether it did before the deadline."""
    with FileIO(results / "stdout") as stdout, FileIO(results / "stderr") as stderr:
        ended = False
        while not ended and time.monotonic() < deadline:
            with contextlib.suppress(subprocess.TimeoutExpired):
                qemu.wait(_TICK)
                ended = True
            # Once more after the end: nothing written before it is missed.
            _forward(stdout, 1)
            _forward(stderr, 2)
    return ended


def _forward(source: FileIO, descriptor: int) -> None:
    """Write what a file has got since it was last read."""
    while chunk := source.read(1 << 16):
        while chunk:
            chunk = chunk[os.write(descriptor, chunk) :]

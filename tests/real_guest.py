"""A guest of the real toolstack, with the agent in it.

Its root is an initramfs: the files that the agent needs, and busybox.
"""

import json
import lzma
import os
import platform
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from functools import cache
from importlib.util import cache_from_source
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NoReturn

from .command import Running, running
from .concurrency import wait_until
from .guest_agent import ANSWER
from .guests import Event, Guest
from .here import has_fifo
from .limits import TIMEOUT
from .toolstack import domain_builder, pause_domain, unpause_domain

ROOT = Path(__file__).resolve().parents[1]

_BUSYBOX = "/bin/busybox"
_CPIO = ROOT / "tools/xenvm_parts/cpio.py"

# The dynamic loader; programs name it by this path.
_LOADER = {
    "x86_64": "/lib64/ld-linux-x86-64.so.2",
    "aarch64": "/lib/ld-linux-aarch64.so.1",
}[platform.machine()]

_NAME = "guest"

# In seconds: the kernel boots without output. An HVM guest's, which QEMU loads, takes minutes on an
# emulated machine that has other work.
_BOOT_TIMEOUT = 500.0

# In MiB: little more is free beside dom0.
_MEMORY = 192

_CONFIGURATION = """\
name = "{name}"
type = "{type}"
vcpus = {vcpus}
memory = {memory}
kernel = "{kernel}"
ramdisk = "{ramdisk}"
cmdline = "console=hvc0 rdinit=/init quiet xen.fifo_events={fifo}"
on_crash = "preserve"
# Otherwise Xen emulates RDTSCP in a way that QEMU's processor does not support.
tsc_mode = "native"
# Leave out the screen of an HVM guest.
vga = "none"
vnc = 0
"""

# The programs that the kernel runs when the toolstack shuts the guest down; busybox has both.
_ENDINGS = ("poweroff", "reboot")

_INIT = """\
#!/bin/busybox sh
set -e
/bin/busybox mount -t proc proc /proc
/bin/busybox mount -t devtmpfs dev /dev
/bin/busybox mount -t sysfs sys /sys
/bin/busybox insmod /module
exec </dev/hvc0 >/dev/hvc0 2>&1
/bin/busybox stty raw -echo
export PYTHONHOME={prefix} PYTHONPATH={path}
exec {python} -m tests.guest_agent
"""


class RealGuest(Guest):
    """A domain of the real Xen.

    Args:
        programs: the folder with the toolstack's programs.
        folder: the folder to save the domain in.
        stack: ends its consoles.
        console: the console for its whole life; None for xenconsoled's.

    Attributes:
        lives: whether it exists and its kernel runs.
    """

    def __init__(
        self, programs: Path, folder: Path, stack: ExitStack, console: Running | None = None
    ) -> None:
        self.lives: bool = True
        self._own_console = console
        self._programs = programs
        self._image = folder / "image"
        self._stack = stack
        self._attach()

    def call(self, method: str, *arguments: object) -> object:
        self._send(method, *arguments)
        # What does not answer is given up.
        self.lives = False
        output = []
        while line := self._console.output.line_or_rest():
            if line.startswith(ANSWER):
                self.lives = True
                result, number = json.loads(line.removeprefix(ANSWER))
                if number:
                    raise OSError(number, os.strerror(number))
                return result
            output.append(line)
        raise AssertionError(f"the guest has ended. Its console: {''.join(output)}")

    def crash_by(self, method: str, *arguments: object, end: str) -> str:
        """Make a call that crashes its kernel; return the console's output up to a text."""
        self.lives = False
        self._send(method, *arguments)
        return self._console.until(end)

    def xenevtchn(self, *arguments: str) -> tuple[int, str, str]:
        """Run the command in the guest; return its exit status, output and errors."""
        result = self.call("xenevtchn", *arguments)
        assert isinstance(result, list)
        status, output, errors = result
        return status, output, errors

    def undergo(self, event: Event) -> None:
        match event:
            case "pause":
                self.pause()
            case "unpause":
                self.unpause()
            case "checkpoint":
                self._xl("save", "-c", _NAME, str(self._image))
            case "save":
                self._xl("save", _NAME, str(self._image))
            case "restore":
                self._xl("restore", str(self._image))
                self._attach()
            case "shutdown":
                self._xl("shutdown", "-w", _NAME)
            case "crash":
                self.crash_by("crash", end="Kernel panic")
            case "destroy":
                self._xl("destroy", str(self.domid))
        self.lives = event not in {"save", "shutdown", "crash", "destroy"}

    def pause(self) -> None:
        """Stop its vCPUs."""
        pause_domain(self.domid)

    def unpause(self) -> None:
        """Start its vCPUs again."""
        unpause_domain(self.domid)

    def reboot(self) -> None:
        """Reboot it by the toolstack; its domid is another one then."""
        before = self.domid
        self.lives = False
        self._xl("reboot", "-w", _NAME)
        # After the domain's end, xl creates the new one in the background.
        wait_until(lambda: self._domid() not in {None, before})
        self._attach()
        self.lives = True

    def end(self) -> None:
        """Destroy it, if it still exists."""
        subprocess.run(
            [self._programs / "xl", "destroy", _NAME],
            stderr=subprocess.DEVNULL,
            timeout=TIMEOUT,
            check=False,
        )

    def _send(self, method: str, *arguments: object) -> None:
        try:
            self._console.write(json.dumps([method, *arguments]) + "\n")
        except BrokenPipeError:
            raise AssertionError(f"the console has ended: {self._console.end()}") from None

    def _attach(self) -> None:
        domid = self._domid()
        assert domid is not None
        self.domid: int = domid
        if self._own_console is not None:
            self._console = self._own_console
        else:
            # xenconsole itself waits five seconds at most for xenconsoled to make the terminal.
            terminal = f"/local/domain/{domid}/console/tty"
            exists = ("xenstore-exists", terminal)
            wait_until(lambda: not subprocess.run(exists, timeout=TIMEOUT, check=False).returncode)
            options = ["--interactive", "--type", "pv", str(self.domid)]
            console = running(
                *options, program=self._programs / "xenconsole", stdin=subprocess.PIPE
            )
            # The console ends with the domain.
            self._console = self._stack.enter_context(console)
        self._console.output.timeout = _BOOT_TIMEOUT

    def _domid(self) -> int | None:
        """Return the number of the domain that has its name now; None if there is none."""
        found = subprocess.run(
            [self._programs / "xl", "domid", _NAME],
            capture_output=True,
            text=True,
            timeout=TIMEOUT,
            check=False,
        )
        return int(found.stdout) if found.returncode == 0 else None

    def _xl(self, *arguments: str) -> None:
        try:
            subprocess.run([self._programs / "xl", *arguments], timeout=TIMEOUT, check=True)
        except subprocess.TimeoutExpired:
            # The test's report shows what they print.
            subprocess.run([self._programs / "xl", "list"], timeout=TIMEOUT, check=False)
            subprocess.run(["xenstore-ls", "/local/domain"], timeout=TIMEOUT, check=False)
            raise


class SharedGuest:
    """A real guest for many tests: starting one takes seconds.

    Args:
        kind: its type, "pv", "pvh" or "hvm", a hyphen and how many vCPUs it has.
        unavailable: ends a test on a machine that cannot have a guest.

    Attributes:
        kind: the same.
    """

    def __init__(self, kind: str, unavailable: Callable[[str], NoReturn]) -> None:
        self.kind: str = kind
        self._unavailable = unavailable
        self._stack = ExitStack()
        self._guest: RealGuest | None = None

    def lend(self) -> RealGuest:
        """Return the guest with a new handle; start a new guest if the last one has ended."""
        if self._guest is None or not self._guest.lives:
            self.stop()
            self._guest = self._stack.enter_context(running_guest(self.kind, self._unavailable))
        self._guest.call("open")
        return self._guest

    def stop(self) -> None:
        """End the guest, if there is one."""
        self._stack.close()


@contextmanager
def running_guest(
    kind: str,
    unavailable: Callable[[str], NoReturn],
    *configuration: str,
    console: Callable[[str], AbstractContextManager[Running]] | None = None,
) -> Iterator[RealGuest]:
    """Run a real guest while the context lasts. Its ABI is this domain's.

    Args:
        kind: its type, "pv", "pvh" or "hvm", a hyphen and how many vCPUs it has.
        unavailable: ends a test on a machine that cannot have a guest.
        configuration: more lines of its configuration.
        console: starts a program that serves the console of the guest of that name; None for
            xenconsoled.
    """
    guest_type, _, vcpus = kind.partition("-")
    kernel = Path(f"/boot/vmlinuz-{platform.release()}")
    if not kernel.exists():
        unavailable(f"needs a kernel for a guest: {kernel}")
    with ExitStack() as stack:
        programs = stack.enter_context(domain_builder(unavailable, has_consoles=not console))
        folder = Path(stack.enter_context(TemporaryDirectory()))
        (folder / "initramfs").write_bytes(_initramfs())
        lines = _CONFIGURATION.format(
            name=_NAME,
            type=guest_type,
            vcpus=vcpus,
            memory=_MEMORY,
            kernel=kernel,
            ramdisk=folder / "initramfs",
            fifo=int(has_fifo()),
        )
        (folder / "config").write_text("\n".join([lines, *configuration, ""]))
        own_console = stack.enter_context(console(_NAME)) if console else None
        subprocess.run(
            [programs / "xl", "create", "-q", folder / "config"], check=True, timeout=TIMEOUT
        )
        guest = RealGuest(programs, folder, stack, own_console)
        stack.callback(guest.end)
        yield guest


@cache
def _initramfs() -> bytes:
    with TemporaryDirectory() as folder:
        _make_root(Path(folder))
        command = [sys.executable, str(_CPIO), folder]
        return subprocess.run(command, stdout=subprocess.PIPE, timeout=TIMEOUT, check=True).stdout


def _make_root(root: Path) -> None:
    """Copy the files that the agent needs, each to the path that it has here.

    A module is copied compiled, if it is: in the guest, to compile one takes long.
    """
    agent = subprocess.run(
        [sys.executable, "-m", "tests.guest_agent", "files"],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        text=True,
        timeout=TIMEOUT,
        check=True,
    )
    python = os.path.realpath(sys.executable)
    for path in {*agent.stdout.splitlines(), python, _LOADER, _BUSYBOX}:
        source, target = Path(path), root / path.lstrip("/")
        if source.suffix == ".py" and (compiled := Path(cache_from_source(path))).exists():
            # Beside other modules, not in __pycache__, it needs no source.
            source, target = compiled, target.with_suffix(".pyc")
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(source, target)
    module = subprocess.check_output(
        ["/sbin/modinfo", "-n", "xen-evtchn"], text=True, timeout=TIMEOUT
    ).strip()
    # busybox cannot load a compressed module.
    opened = lzma.open if module.endswith(".xz") else open
    with opened(module, "rb") as contents:
        (root / "module").write_bytes(contents.read())
    for mount_point in ("proc", "dev", "sys"):
        (root / mount_point).mkdir()
    init = _INIT.format(
        prefix=sys.base_prefix,
        path=shlex.quote(":".join([str(ROOT), *filter(None, sys.path)])),
        python=python,
    )
    _make_script(root / "init", init)
    (root / "sbin").mkdir(exist_ok=True)
    for ending in _ENDINGS:
        _make_script(root / "sbin" / ending, f"#!{_BUSYBOX} sh\nexec {_BUSYBOX} {ending} -f\n")


def _make_script(path: Path, text: str) -> None:
    path.write_text(text)
    path.chmod(0o755)

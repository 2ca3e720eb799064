"""Another domain than dom0, with a process in it: a real one, or a fake's.

The real one is a guest of dom0's toolstack. Its root is made of what the process needs, and of
busybox, in an initramfs.
"""

import json
import lzma
import os
import platform
import shlex
import shutil
import subprocess
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Literal, NoReturn, Protocol

from pyxenevtchn import EventChannel
from pyxenevtchn.fake import Hypervisor

from .command import Running, running
from .fake.server.process import ServerProcess
from .guest_agent import ANSWER, use_up
from .here import has_fifo
from .limits import TIMEOUT
from .toolstack import domain_builder, pause_domain, unpause_domain

ROOT = Path(__file__).resolve().parents[1]

_BUSYBOX = "/bin/busybox"

# What starts a program; programs name it by this path.
_LOADER = {
    "x86_64": "/lib64/ld-linux-x86-64.so.2",
    "aarch64": "/lib/ld-linux-aarch64.so.1",
}[platform.machine()]

_NAME = "guest"

# Its kernel boots in silence, in a machine that is emulated.
_BOOT_TIMEOUT = 200.0

# Xen has little more than this left beside dom0, in MiB.
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
# Otherwise Xen emulates an instruction in a way that needs more than QEMU's processor has.
tsc_mode = "native"
# An HVM guest has a screen that nobody looks at.
vga = "none"
vnc = 0
"""

# What the kernel runs where the toolstack has it shut down, and what busybox calls that.
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


Event = Literal["pause", "unpause", "checkpoint", "save", "restore", "shutdown", "crash", "destroy"]
"""What happens to a domain: as xl does it, and a crash of its kernel that xl preserves."""


class Guest(Protocol):
    """A domain, with a handle of its own.

    Attributes:
        domid: its number: another one after a restore.
    """

    domid: int

    def call(self, method: str, *arguments: object) -> object:
        """Call a method of its EventChannel; "open" gives it another one, "use_up" its last port.

        Raises:
            OSError: with the errno that the method's had.
        """

    def bind(self, method: str, *arguments: object) -> int:
        """Call a method that binds a port, and return the port."""

    def take(self, timeout: float = TIMEOUT) -> list[int]:
        """Wait for events, unmask their ports and return these."""

    def undergo(self, event: Event) -> None:
        """Make something happen to it."""


class _Calls:
    """What is made of calls."""

    def bind(self: Guest, method: str, *arguments: object) -> int:
        port = self.call(method, *arguments)
        assert isinstance(port, int)
        return port

    def take(self: Guest, timeout: float = TIMEOUT) -> list[int]:
        ports = self.call("wait", timeout)
        assert isinstance(ports, list)
        self.call("unmask", ports)
        return ports


class FakeGuest(_Calls):
    """A domain of a fake.

    Args:
        domid: its number.
        open_channel: opens a handle in the domain of a number.
        undergo: makes something happen to the domain of a number; returns the number after it.
    """

    def __init__(
        self,
        domid: int,
        open_channel: Callable[[int], EventChannel],
        undergo: Callable[[int, Event], int],
    ) -> None:
        self.domid = domid
        self._open = open_channel
        self._undergo = undergo
        self._channel = open_channel(domid)

    def call(self, method: str, *arguments: object) -> object:
        if method == "open":
            self.close()
            self._channel = self._open(self.domid)
            return None
        if method == "use_up":
            return use_up(self._channel)
        return getattr(self._channel, method)(*arguments)

    def undergo(self, event: Event) -> None:
        self.domid = self._undergo(self.domid, event)

    def close(self) -> None:
        """Close its handle; one that is stale says that its descriptor stays open."""
        with warnings.catch_warnings():
            if self._channel.stale:
                warnings.simplefilter("ignore", RuntimeWarning)
            self._channel.close()


def guest_of(xen: Hypervisor) -> FakeGuest:
    """Create a domain of a fake in this process."""
    domain = xen.create_domain()

    def undergo(_: int, event: Event) -> int:
        if event == "crash":
            domain.crash(preserve=True)
        else:
            getattr(domain, event)()
        return domain.domid

    return FakeGuest(domain.domid, lambda _: domain.open(), undergo)


def guest_of_server(server: ServerProcess) -> FakeGuest:
    """Create a domain of a fake that is served."""

    def undergo(domid: int, event: Event) -> int:
        if event == "restore":
            return server.xen.restore_domain(domid)
        if event == "crash":
            server.xen.crash_domain(domid, preserve=True)
        else:
            getattr(server.xen, f"{event}_domain")(domid)
        return domid

    return FakeGuest(
        server.xen.create_domain(), lambda domid: EventChannel.open(server.name(domid)), undergo
    )


class RealGuest(_Calls):
    """A domain of the real Xen.

    Args:
        programs: the folder with the toolstack's programs.
        folder: where it can be saved.
        stack: what ends its consoles.
        console: the one that it has, whatever happens to it; None for one of xenconsoled's.

    Attributes:
        lives: whether it is there, and its kernel runs.
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
        self._say(method, *arguments)
        said = []
        while line := self._console.output.line_or_rest():
            if line.startswith(ANSWER):
                result, number = json.loads(line.removeprefix(ANSWER))
                if number:
                    raise OSError(number, os.strerror(number))
                return result
            said.append(line)
        self.lives = False
        raise AssertionError(f"the guest is gone. Its last words: {''.join(said)}")

    def last_words(self, method: str, *arguments: object, end: str) -> str:
        """Make a call that its kernel does not survive; return its console, until a text."""
        self.lives = False
        self._say(method, *arguments)
        return self._console.until(end)

    def xenevtchn(self, *arguments: str) -> tuple[int, str, str]:
        """Run the command there; return its exit status and what it wrote."""
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
                self.last_words("crash", end="Kernel panic")
            case "destroy":
                self._xl("destroy", str(self.domid))
        self.lives = event not in {"save", "shutdown", "crash", "destroy"}

    def pause(self) -> None:
        """Stop its vCPUs."""
        pause_domain(self.domid)

    def unpause(self) -> None:
        """Let its vCPUs run again."""
        unpause_domain(self.domid)

    def reboot(self) -> None:
        """Have it reboot, by the toolstack: with another domid."""
        before = self.domid
        self.lives = False
        self._xl("reboot", "-w", _NAME)
        deadline = time.monotonic() + TIMEOUT
        # One domain goes, and xl in the background creates the other.
        while self._domid() in {None, before}:
            assert time.monotonic() < deadline
            time.sleep(0.1)
        self._attach()
        self.lives = True

    def end(self) -> None:
        """Destroy it, if it is there still."""
        subprocess.run(
            [self._programs / "xl", "destroy", _NAME],
            stderr=subprocess.DEVNULL,
            timeout=TIMEOUT,
            check=False,
        )

    def _say(self, method: str, *arguments: object) -> None:
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
            options = ["--interactive", "--type", "pv", str(self.domid)]
            console = running(
                *options, program=self._programs / "xenconsole", stdin=subprocess.PIPE
            )
            # It ends with the domain.
            self._console = self._stack.enter_context(console)
        self._console.output.timeout = _BOOT_TIMEOUT

    def _domid(self) -> int | None:
        """Return the number of the domain that has its name now."""
        found = subprocess.run(
            [self._programs / "xl", "domid", _NAME],
            capture_output=True,
            text=True,
            timeout=TIMEOUT,
            check=False,
        )
        return int(found.stdout) if found.returncode == 0 else None

    def _xl(self, *arguments: str) -> None:
        subprocess.run([self._programs / "xl", *arguments], timeout=TIMEOUT, check=True)


class SharedGuest:
    """One real guest for many tests: to start one takes seconds.

    Args:
        kind: its type, "pv", "pvh" or "hvm", a hyphen and how many vCPUs it has.
        unavailable: how to end a test where there can be none.

    Attributes:
        kind: the same.
    """

    def __init__(self, kind: str, unavailable: Callable[[str], NoReturn]) -> None:
        self.kind: str = kind
        self._unavailable = unavailable
        self._stack = ExitStack()
        self._guest: RealGuest | None = None

    def lend(self) -> RealGuest:
        """Return it, with a new handle; or another one, where it has been destroyed."""
        if self._guest is None or not self._guest.lives:
            self.stop()
            self._guest = self._stack.enter_context(running_guest(self.kind, self._unavailable))
        self._guest.call("open")
        return self._guest

    def stop(self) -> None:
        """End it, if there is one."""
        self._stack.close()


@contextmanager
def running_guest(
    kind: str,
    unavailable: Callable[[str], NoReturn],
    *configuration: str,
    console: Callable[[str], AbstractContextManager[Running]] | None = None,
) -> Iterator[RealGuest]:
    """Run a real guest for as long as the context lasts. Its ABI is this domain's.

    Args:
        kind: its type, "pv", "pvh" or "hvm", a hyphen and how many vCPUs it has.
        unavailable: how to end a test where there can be none.
        configuration: more lines of its configuration.
        console: starts a program that is the console of the guest of that name; None for
            xenconsoled.
    """
    guest_type, _, vcpus = kind.partition("-")
    kernel = Path(f"/boot/vmlinuz-{platform.release()}")
    if not kernel.exists():
        unavailable(f"needs a kernel for a guest: {kernel}")
    with ExitStack() as stack:
        programs = stack.enter_context(domain_builder(unavailable, has_consoles=not console))
        folder = Path(stack.enter_context(TemporaryDirectory()))
        _make_root(folder / "root")
        _pack(folder / "root", folder / "initramfs")
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


def _make_root(root: Path) -> None:
    """Lay out what the agent needs, each file where it is here."""
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
        target = root / path.lstrip("/")
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, target)
    module = subprocess.check_output(
        ["/sbin/modinfo", "-n", "xen-evtchn"], text=True, timeout=TIMEOUT
    ).strip()
    # busybox loads none that is compressed.
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


def _pack(root: Path, initramfs: Path) -> None:
    # Sorted, a folder comes before what is in it.
    names = "\n".join(str(path.relative_to(root)) for path in sorted(root.rglob("*")))
    archive = subprocess.run(
        [_BUSYBOX, "cpio", "-o", "-H", "newc"],
        cwd=root,
        input=names.encode(),
        capture_output=True,
        timeout=TIMEOUT,
        check=True,
    )
    initramfs.write_bytes(archive.stdout)

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
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NoReturn, Protocol

from pyxenevtchn import EventChannel

from .command import Running, running
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

# Its kernel boots in silence, in a machine that is emulated.
_BOOT_TIMEOUT = 200.0

# Xen has little more than this left beside dom0, in MiB.
_MEMORY = 192

_CONFIGURATION = """\
name = "guest"
type = "{type}"
vcpus = {vcpus}
memory = {memory}
kernel = "{kernel}"
ramdisk = "{ramdisk}"
cmdline = "console=hvc0 rdinit=/init quiet xen.fifo_events={fifo}"
# Otherwise Xen emulates an instruction in a way that needs more than QEMU's processor has.
tsc_mode = "native"
# An HVM guest has a screen that nobody looks at.
vga = "none"
vnc = 0
"""

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


class Guest(Protocol):
    """A domain, with a handle of its own.

    Attributes:
        domid: its number.
    """

    domid: int

    def call(self, method: str, *arguments: object) -> object:
        """Call a method of its EventChannel; "open" gives it another one, "use_up" its last port.

        Raises:
            OSError: with the errno that the method's had.
        """

    def destroy(self) -> None:
        """Destroy it."""


class FakeGuest:
    """A domain of a fake."""

    def __init__(
        self, domid: int, open_channel: Callable[[], EventChannel], destroy: Callable[[], None]
    ) -> None:
        self.domid = domid
        self.destroy = destroy
        self._open = open_channel
        self._channel = open_channel()

    def call(self, method: str, *arguments: object) -> object:
        if method == "open":
            self._channel.close()
            self._channel = self._open()
            return None
        if method == "use_up":
            return use_up(self._channel)
        return getattr(self._channel, method)(*arguments)

    def close(self) -> None:
        """Close its handle."""
        self._channel.close()


class RealGuest:
    """A domain of the real Xen.

    Attributes:
        destroyed: whether it is gone.
    """

    def __init__(self, domid: int, console: Running, xl: Path) -> None:
        self.domid = domid
        self.destroyed: bool = False
        self._console = console
        self._xl = xl

    def call(self, method: str, *arguments: object) -> object:
        self._console.write(json.dumps([method, *arguments]) + "\n")
        said = []
        while line := self._console.output.line_or_rest():
            if line.startswith(ANSWER):
                result, number = json.loads(line.removeprefix(ANSWER))
                if number:
                    raise OSError(number, os.strerror(number))
                return result
            said.append(line)
        raise AssertionError(f"the guest is gone. Its last words: {''.join(said)}")

    def xenevtchn(self, *arguments: str) -> tuple[int, str, str]:
        """Run the command there; return its exit status and what it wrote."""
        result = self.call("xenevtchn", *arguments)
        assert isinstance(result, list)
        status, output, errors = result
        return status, output, errors

    def pause(self) -> None:
        """Stop its vCPUs."""
        pause_domain(self.domid)

    def unpause(self) -> None:
        """Let its vCPUs run again."""
        unpause_domain(self.domid)

    def destroy(self) -> None:
        if not self.destroyed:
            self.destroyed = True
            subprocess.run([self._xl, "destroy", str(self.domid)], check=True, timeout=TIMEOUT)


class SharedGuest:
    """One real guest for many tests: to start one takes seconds.

    Args:
        kind: its type, "pv", "pvh" or "hvm", a hyphen and how many vCPUs it has.
        unavailable: how to end a test where there can be none.
    """

    def __init__(self, kind: str, unavailable: Callable[[str], NoReturn]) -> None:
        self._kind = kind
        self._unavailable = unavailable
        self._stack = ExitStack()
        self._guest: RealGuest | None = None

    def lend(self) -> RealGuest:
        """Return it, with a new handle; or another one, where it has been destroyed."""
        if self._guest is None or self._guest.destroyed:
            self.stop()
            self._guest = self._stack.enter_context(running_guest(self._kind, self._unavailable))
        self._guest.call("open")
        return self._guest

    def stop(self) -> None:
        """End it, if there is one."""
        self._stack.close()


@contextmanager
def running_guest(
    kind: str, unavailable: Callable[[str], NoReturn], *configuration: str
) -> Iterator[RealGuest]:
    """Run a real guest for as long as the context lasts. Its ABI is this domain's.

    Args:
        kind: its type, "pv", "pvh" or "hvm", a hyphen and how many vCPUs it has.
        unavailable: how to end a test where there can be none.
        configuration: more lines of its configuration.
    """
    guest_type, _, vcpus = kind.partition("-")
    kernel = Path(f"/boot/vmlinuz-{platform.release()}")
    if not kernel.exists():
        unavailable(f"needs a kernel for a guest: {kernel}")
    with ExitStack() as stack:
        programs = stack.enter_context(domain_builder(unavailable))
        folder = Path(stack.enter_context(TemporaryDirectory()))
        _make_root(folder / "root")
        _pack(folder / "root", folder / "initramfs")
        lines = _CONFIGURATION.format(
            type=guest_type,
            vcpus=vcpus,
            memory=_MEMORY,
            kernel=kernel,
            ramdisk=folder / "initramfs",
            fifo=int(has_fifo()),
        )
        (folder / "config").write_text("\n".join([lines, *configuration, ""]))
        xl = programs / "xl"
        subprocess.run([xl, "create", "-q", folder / "config"], check=True, timeout=TIMEOUT)
        domid = subprocess.check_output([xl, "domid", "guest"], text=True, timeout=TIMEOUT).strip()
        options = ["--interactive", "--type", "pv", domid]
        console = stack.enter_context(
            running(*options, program=programs / "xenconsole", stdin=subprocess.PIPE)
        )
        console.output.timeout = _BOOT_TIMEOUT
        guest = RealGuest(int(domid), console, xl)
        # Its console ends with it.
        stack.callback(guest.destroy)
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
    module = subprocess.check_output(
        ["/sbin/modinfo", "-n", "xen-evtchn"], text=True, timeout=TIMEOUT
    ).strip()
    python = os.path.realpath(sys.executable)
    for path in {*agent.stdout.splitlines(), python, _LOADER, _BUSYBOX}:
        target = root / path.lstrip("/")
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, target)
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
    (root / "init").write_text(init)
    (root / "init").chmod(0o755)


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

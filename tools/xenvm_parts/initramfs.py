"""The guest's first root: busybox, the init script, the modules, and what to run.

Small enough to be made anew for each run; left uncompressed, because the emulated machine is slow.
"""

import lzma
import shlex
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from .errors import Failure
from .packages import Kernel

_MODULES = (
    *("virtio_pci", "9pnet_virtio", "9p", "overlay"),
    *("xen_evtchn", "xen_gntdev", "xen_gntalloc", "xen_privcmd", "xenfs", "xen_blkback"),
)


@dataclass(frozen=True, slots=True)
class Job:
    """What the guest is to run, and with what around it; the paths are the host's."""

    command: Sequence[str]
    directory: Path
    environment: Mapping[str, str]
    share: Path | None

    def script(self, kernel: Kernel) -> bytes:
        """Return what the init script reads: its variables and its function."""
        variables = (f"{name}={value}" for name, value in self.environment.items())
        words = ("/usr/bin/env", "-i", f"--chdir={self.directory}", *variables, *self.command)
        return (
            f"share={shlex.quote(str(self.share or ''))}\n"
            f"modules={shlex.quote(str(kernel.modules))}\n"
            f"kernel={shlex.quote(str(kernel.image))}\n"
            f"run_command() {{ exec setsid chroot . {shlex.join(words)}; }}\n"
        ).encode(errors="surrogateescape")


def initramfs(job: Job, kernel: Kernel, busybox: Path) -> bytes:
    """Return a cpio archive for the kernel."""
    init = Path(__file__).with_name("init.sh").read_bytes()
    entries = [
        _entry("bin", 0o040755),
        _entry("bin/busybox", 0o100755, busybox.read_bytes()),
        _entry("dev", 0o040755),
        _entry("proc", 0o040755),
        _entry("init", 0o100755, init),
        _entry("job.sh", 0o100644, job.script(kernel)),
        _entry("modules", 0o040755),
    ]
    for number, path in enumerate(_with_dependencies(kernel.modules, _MODULES)):
        # The init script loads them in the order of their names.
        entries.append(_entry(f"modules/{number:02}-{path.name}", 0o100644, _contents(path)))
    return b"".join([*entries, _entry("TRAILER!!!", 0)])


def _with_dependencies(modules: Path, names: Iterable[str]) -> list[Path]:
    """Return the files of the modules and of all that they need, each after what it needs."""
    needs: dict[str, list[str]] = {}
    for line in (modules / "modules.dep").read_text().splitlines():
        file, _, others = line.partition(":")
        needs[file] = others.split()
    files = {_name(file): file for file in needs}
    builtin = set(map(_name, (modules / "modules.builtin").read_text().splitlines()))
    ordered: dict[str, None] = {}
    for name in names:
        if name in files:
            # modules.dep has the deepest dependency last.
            ordered |= dict.fromkeys([*reversed(needs[files[name]]), files[name]])
        elif name not in builtin:
            raise Failure(f"the kernel in {modules} has no module {name}")
    return [modules / file for file in ordered]


def _name(file: str) -> str:
    """Return a module's name, as lsmod has it, from its file's."""
    return Path(file).name.partition(".")[0].replace("-", "_")


def _contents(path: Path) -> bytes:
    """Return a module as busybox can load it: not compressed."""
    contents = path.read_bytes()
    return lzma.decompress(contents) if path.suffix == ".xz" else contents


def _entry(name: str, mode: int, contents: bytes = b"") -> bytes:
    """Return a file or directory as cpio's "newc" format has it, owned by root."""
    path = name.encode() + b"\0"
    fields = (0, mode, 0, 0, 1, 0, len(contents), 0, 0, 0, 0, len(path), 0)
    header = b"070701" + b"".join(b"%08X" % field for field in fields) + path
    return _padded(header) + _padded(contents)


def _padded(contents: bytes) -> bytes:
    """Return the contents, filled up to a multiple of four bytes."""
    return contents + bytes(-len(contents) % 4)

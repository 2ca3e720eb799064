"""What a domain runs after it has booted: its root, made of the host's files, and its command."""

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from .initramfs import initramfs
from .packages import Kernel

_PARTS = Path(__file__).parent
_MODULES = (
    *("9p", "overlay"),
    *("xen_evtchn", "xen_gntdev", "xen_gntalloc", "xen_privcmd", "xenfs", "xen_blkback"),
)
# 9p's transport, and its modules.
_TRANSPORTS = {
    "x86_64": ("virtio", ("virtio_pci", "9pnet_virtio")),
    "arm64": ("virtio", ("virtio_mmio", "9pnet_virtio")),
    "guest": ("xen", ("9pnet_xen",)),
}


@dataclass(frozen=True, slots=True)
class Job:
    """What to run, and its environment; the paths are the host's.

    Attributes:
        command: the program and its arguments.
        directory: where it starts.
        environment: its variables.
        share: the directory whose changes are kept; None if there is none.
    """

    command: Sequence[str]
    directory: Path
    environment: Mapping[str, str]
    share: Path | None

    def words(self) -> str:
        """Return the command, quoted for a shell."""
        variables = (f"{name}={value}" for name, value in self.environment.items())
        return shlex.join(
            ["/usr/bin/env", "-i", f"--chdir={self.directory}", *variables, *self.command]
        )


@dataclass(frozen=True, slots=True)
class Domain:
    """A domain, as its init script sees it; the paths are the host's.

    Attributes:
        kernel: what it boots.
        busybox: the program for its architecture.
        where: "x86_64" or "arm64" for a dom0, else "guest".
        job: what it runs.
        base: the directory that its root is made of.
        layers: further directories of the root, at the same paths.
        binds: further files and directories, by their paths in the root.
        part: a script that the init script sources before it runs the job.
        variables: that script's variables.
        files: that script's files, in the initramfs.
        copies: the host's files that it has in its memory from the start.
    """

    kernel: Kernel
    busybox: Path
    where: str
    job: Job
    base: Path = Path("/")
    layers: Sequence[Path] = ()
    binds: Mapping[str, Path] = field(default_factory=dict)
    part: str = ""
    variables: Mapping[str, object] = field(default_factory=dict)
    files: Mapping[str, bytes] = field(default_factory=dict)
    copies: Sequence[Path] = ()

    def initramfs(self) -> bytes:
        """Return its initramfs."""
        _, modules = _TRANSPORTS[self.where]
        scripts = [name for name in ("init.sh", self.part) if name]
        files = {name: (_PARTS / name).read_bytes() for name in scripts}
        files["init"] = files.pop("init.sh")
        files["job.sh"] = self._script().encode(errors="surrogateescape")
        return initramfs(
            self.busybox,
            self.kernel.modules,
            (*modules, *_MODULES),
            files | dict(self.files),
            self.copies,
        )

    def _script(self) -> str:
        """Return what the init script sources: its variables and functions."""
        transport, _ = _TRANSPORTS[self.where]
        variables = {
            "transport": transport,
            "base": "" if self.base == Path("/") else self.base,
            "share": self.job.share or "",
            "part": self.part,
        } | dict(self.variables)
        modules = self.kernel.modules
        binds = dict(self.binds) | {
            f"/lib/modules/{modules.name}": modules,
            f"/boot/vmlinuz-{modules.name}": self.kernel.image,
        }
        steps = [("overlay", layer, str(layer)) for layer in self.layers]
        steps += [("bind", path, target) for target, path in binds.items()]
        return (
            "".join(f"{name}={shlex.quote(str(value))}\n" for name, value in variables.items())
            + "lay_out() {\n"
            + "".join(
                f"    {name} {shlex.quote(f'/host{path}')} {shlex.quote(f'/system{target}')}\n"
                for name, path, target in steps
            )
            + "}\n"
            + f"run_command() {{ exec setsid chroot . {self.job.words()}; }}\n"
        )

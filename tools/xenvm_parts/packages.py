"""Debian's kernels and hypervisors: fetched with a private apt, unpacked into the cache.

Nothing is installed and the machine's own apt is only read. What the cache holds under its final
name is whole: everything is made under a temporary name and renamed.
"""

import contextlib
import fcntl
import gzip
import lzma
import os
import re
import shutil
import signal
import struct
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from . import programs
from .errors import Failure
from .progress import say
from .sources import debian_source


@dataclass(frozen=True, slots=True)
class Release:
    """Where Debian has a kernel's version, and what the emulated machine must be for it."""

    suite: str
    packages: tuple[str, ...] = ("linux-image",)
    processors: int = 2


LINUX = {
    "6.1": Release("bookworm"),
    "6.12": Release("trixie"),
    # On two processors it panics now and then, under QEMU 7.2's emulation.
    "7.2": Release("sid", ("linux-binary", "linux-modules", "linux-base"), processors=1),
}

# The suites that have each hypervisor.
XEN = {"4.17": "bookworm", "4.20": "trixie"}


@dataclass(frozen=True, slots=True)
class Kernel:
    """An unpacked kernel: its image, and its modules under lib/modules as a system has them."""

    directory: Path

    @property
    def image(self) -> Path:
        """The kernel itself."""
        return self.directory / "linux"

    @property
    def modules(self) -> Path:
        """The directory which the guest sees as /lib/modules/$(uname -r)."""
        return next((self.directory / "lib/modules").iterdir())


def linux(version: str) -> Kernel:
    """Return the kernel of a version such as 6.1, fetching it if the cache has none."""

    def make(target: Path) -> None:
        release = LINUX[version]
        apt = _Apt(release.suite)
        first, *others = release.packages
        name = apt.newest(rf"{first}-{re.escape(version)}\.[\d.-]+(\+deb\d+)?-amd64")
        unpacked = target / "unpacked"
        for package in (name, *(name.replace(first, other) for other in others)):
            apt.unpack(package, unpacked)
        image = _one(unpacked, "boot/vmlinuz-*", "usr/lib/modules/*/vmlinuz").read_bytes()
        (target / "linux").write_bytes(_decompressed(image))
        modules = _one(unpacked, "lib/modules/*", "usr/lib/modules/*")
        (target / "lib/modules").mkdir(parents=True)
        modules.rename(target / "lib/modules" / modules.name)
        shutil.rmtree(unpacked)
        # Newer versions of depmod look for modules under usr/lib.
        (target / "usr").symlink_to(".")
        _run("depmod", "-b", target, modules.name)

    return Kernel(_cached(f"linux-{version}", make))


def xen(version: str) -> Path:
    """Return the hypervisor of a version such as 4.17, fetching it if the cache has none."""

    def make(target: Path) -> None:
        apt = _Apt(XEN[version])
        unpacked = target / "unpacked"
        apt.unpack(f"xen-hypervisor-{version}-amd64", unpacked)
        compressed = _one(unpacked, f"boot/xen-{version}-amd64.gz")
        (target / "xen").write_bytes(gzip.decompress(compressed.read_bytes()))
        shutil.rmtree(unpacked)

    return _cached(f"xen-{version}", make) / "xen"


class _Apt:
    """An apt with sources, lists and downloads of its own, for one suite."""

    def __init__(self, suite: str) -> None:
        say(f"reading the package lists of Debian {suite}")
        self._suite = suite
        home = _cache() / f"apt-{suite}"
        for name in ("sources", "lists/partial", "archives/partial"):
            (home / name).mkdir(parents=True, exist_ok=True)
        (home / "sources/debian.sources").write_text(debian_source(suite))
        (home / "status").touch()
        self._options = [
            f"-oDir::Etc::sourceparts={home}/sources",
            "-oDir::Etc::sourcelist=/dev/null",
            "-oDir::Etc::preferences=/dev/null",
            "-oDir::Etc::preferencesparts=/dev/null",
            f"-oDir::State={home}",
            f"-oDir::State::lists={home}/lists",
            f"-oDir::State::status={home}/status",
            f"-oDir::Cache={home}",
            # Root's cache is closed to the user that apt downloads as; others are that user.
            "-oAPT::Sandbox::User=root",
            "-oAPT::Architecture=amd64",
            "-oAPT::Architectures=amd64",
            "-oAcquire::Languages=none",
        ]
        _run("apt-get", *self._options, "-qq", "--error-on=any", "update")

    def newest(self, pattern: str) -> str:
        """Return the package with the highest version in its name, among those that match."""
        names = _run("apt-cache", *self._options, "pkgnames", "linux-").split()
        matching = [name for name in names if re.fullmatch(pattern, name)]
        if not matching:
            raise Failure(f"Debian {self._suite} has no package that matches {pattern}")
        return max(matching, key=lambda name: [int(part) for part in re.findall(r"\d+", name)])

    def unpack(self, package: str, target: Path) -> None:
        """Download a package and add its files to a directory."""
        say(f"downloading {package}")
        target.mkdir(exist_ok=True)
        _run("apt-get", *self._options, "-qq", "download", package, cwd=target)
        say(f"unpacking {package}")
        archive = _one(target, "*.deb")
        _run("dpkg-deb", "-x", archive, target)
        archive.unlink()


def _decompressed(image: bytes) -> bytes:
    """Return the ELF file in a bzImage where it is packed by xz, else the bzImage itself.

    Xen boots both; but unpacking is a third of a boot's time when the emulated machine does it.
    """
    # Linux, Documentation/arch/x86/boot.rst: setup_sects, payload_offset and payload_length.
    setup_sectors = image[0x1F1]
    offset, length = struct.unpack_from("<II", image, 0x248)
    payload = image[(setup_sectors + 1) * 512 + offset :][:length]
    # The last four bytes are the unpacked size.
    return lzma.decompress(payload[:-4]) if payload.startswith(b"\xfd7zXZ") else image


def _cached(name: str, make: Callable[[Path], None]) -> Path:
    """Return the cache's directory of that name; if there is none, let make() fill it first."""
    final = _cache() / name
    if not final.exists():
        with _lock():
            unfinished = _cache() / "unfinished"
            # Another xenvm may have made it meanwhile, or died and left something behind.
            if not final.exists():
                shutil.rmtree(unfinished, ignore_errors=True)
                unfinished.mkdir()
                make(unfinished)
                unfinished.rename(final)
    return final


@contextlib.contextmanager
def _lock() -> Iterator[None]:
    """Hold the cache's lock: one xenvm fetches, the others wait for what it brings."""
    with (_cache() / "lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _cache() -> Path:
    """Return the cache's directory, made if it is missing."""
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    directory = Path(base, "pyxenevtchn/xenvm")
    directory.mkdir(parents=True, exist_ok=True)
    return directory.resolve()


def _one(directory: Path, *patterns: str) -> Path:
    """Return the one path that matches one of the patterns."""
    found = [path for pattern in patterns for path in directory.glob(pattern)]
    if len(found) != 1:
        raise Failure(f"a package holds {len(found)} files like {' or '.join(patterns)}, not one")
    return found[0]


def _run(program: str, *arguments: str | Path, cwd: Path | None = None) -> str:
    """Run a program to its end and return what it printed."""
    process = subprocess.Popen(
        [programs.find(program), *arguments],
        cwd=cwd,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        process_group=0,
    )
    with process:
        try:
            output, errors = process.communicate()
        except BaseException:
            # The program's own children must not go on writing to the cache.
            os.killpg(process.pid, signal.SIGKILL)
            raise
    if process.returncode != 0:
        raise Failure(f"{program} failed:\n{errors.strip()}")
    return output

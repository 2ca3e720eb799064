"""Debian's kernels, hypervisors and toolstacks, unpacked into the cache."""

import gzip
import lzma
import re
import shutil
import struct
from dataclasses import dataclass
from pathlib import Path

from .cache import cached
from .debian import Apt, run
from .errors import Failure

# Debian's names of the architectures.
DEBIAN = {"x86_64": "amd64", "arm64": "arm64"}


@dataclass(frozen=True, slots=True)
class Release:
    """Where Debian has a version."""

    suite: str
    packages: tuple[str, ...] = ("linux-image",)


LINUX = {
    "6.1": Release("bookworm"),
    "6.12": Release("trixie"),
    "7.2": Release("sid", ("linux-binary", "linux-modules", "linux-base")),
}

# The suites that have each hypervisor.
XEN = {"4.17": "bookworm", "4.20": "trixie"}

# The disk space that making each needs, in MiB.
_LINUX_SIZE = 900
_XEN_SIZE = 20
_TOOLSTACK_SIZE = 500
_ARM64_SYSTEM_SIZE = 900

# Besides Xen's: QEMU, which some guests need, and what Xen's scripts run.
_TOOLSTACK = ("xenstore-utils", "qemu-system-xen", "coreutils", "dash")
_ARM64_SYSTEM = (
    *("bash", "busybox-static", "coreutils", "dash", "findutils", "grep", "kmod", "procps", "sed"),
    *("util-linux", "python3", "libpython3-dev", "gcc", "libc6-dev", "strace"),
)


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
        """The directory that the guest sees as /lib/modules/$(uname -r)."""
        return next((self.directory / "lib/modules").iterdir())


def linux(version: str, architecture: str = "x86_64") -> Kernel:
    """Return the kernel of a version such as 6.1, fetching it if the cache has none."""
    debian = DEBIAN[architecture]

    def make(target: Path) -> None:
        release = LINUX[version]
        apt = Apt(release.suite, debian)
        first, *others = release.packages
        name = apt.newest(rf"{first}-{re.escape(version)}\.[\d.-]+(\+deb\d+)?-{debian}")
        unpacked = target / "unpacked"
        apt.unpack([name, *(name.replace(first, other) for other in others)], unpacked)
        image = _one(unpacked, "boot/vmlinuz-*", "usr/lib/modules/*/vmlinuz").read_bytes()
        (target / "linux").write_bytes(_decompressed(image))
        modules = _one(unpacked, "lib/modules/*", "usr/lib/modules/*")
        (target / "lib/modules").mkdir(parents=True)
        modules.rename(target / "lib/modules" / modules.name)
        shutil.rmtree(unpacked)
        # Newer versions of depmod look for modules under usr/lib.
        (target / "usr").symlink_to(".")
        run("depmod", "-b", target, modules.name)

    return Kernel(cached(linux_name(version, architecture), _LINUX_SIZE, make))


def xen(version: str, architecture: str = "x86_64") -> Path:
    """Return the hypervisor of a version such as 4.17, fetching it if the cache has none."""
    debian = DEBIAN[architecture]

    def make(target: Path) -> None:
        unpacked = target / "unpacked"
        Apt(XEN[version], debian).unpack([f"xen-hypervisor-{version}-{debian}"], unpacked)
        name = f"boot/xen-{version}-{debian}"
        image = _one(unpacked, name, f"{name}.gz").read_bytes()
        (target / "xen").write_bytes(gzip.decompress(image) if image[:2] == b"\x1f\x8b" else image)
        shutil.rmtree(unpacked)

    return cached(xen_name(version, architecture), _XEN_SIZE, make) / "xen"


def toolstack(version: str) -> Path:
    """Return a root with Xen's tools of a version, and QEMU for guests that need one."""

    def make(target: Path) -> None:
        Apt(XEN[version]).unpack_system([f"xen-utils-{version}", *_TOOLSTACK], target)

    return cached(toolstack_name(version), _TOOLSTACK_SIZE, make)


def arm64_system(version: str) -> Path:
    """Return the root of a dom0 for arm64, with the tools of a version of Xen."""

    def make(target: Path) -> None:
        tools = [f"xen-utils-{version}", "xenstore-utils", "libxen-dev"]
        Apt(XEN[version], "arm64").unpack_system([*_ARM64_SYSTEM, *tools], target)
        # The alternative that Debian's maintainer scripts would choose.
        (target / "usr/bin/cc").symlink_to("gcc")

    return cached(arm64_system_name(version), _ARM64_SYSTEM_SIZE, make)


def arm64_system_name(version: str) -> str:
    """Return the name of an arm64 dom0's root in the cache."""
    return f"system-{version}-arm64"


def linux_name(version: str, architecture: str) -> str:
    """Return a kernel's name in the cache."""
    return f"linux-{version}" + _suffix(architecture)


def xen_name(version: str, architecture: str) -> str:
    """Return a hypervisor's name in the cache."""
    return f"xen-{version}" + _suffix(architecture)


def toolstack_name(version: str) -> str:
    """Return a toolstack's name in the cache."""
    return f"toolstack-{version}"


def _suffix(architecture: str) -> str:
    return "" if architecture == "x86_64" else f"-{architecture}"


def _decompressed(image: bytes) -> bytes:
    """Return the ELF file in a bzImage that xz compressed, else the image itself.

    Xen boots both, but an emulated machine spends a third of its boot on the decompression.
    """
    # Linux, Documentation/arch/x86/boot.rst: header, setup_sects, payload_offset, payload_length.
    if image[0x202:0x206] != b"HdrS":
        return image
    setup_sectors = image[0x1F1]
    offset, length = struct.unpack_from("<II", image, 0x248)
    payload = image[(setup_sectors + 1) * 512 + offset :][:length]
    # The last four bytes are the unpacked size.
    return lzma.decompress(payload[:-4]) if payload.startswith(b"\xfd7zXZ") else image


def _one(directory: Path, *patterns: str) -> Path:
    """Return the one path that matches one of the patterns."""
    found = [path for pattern in patterns for path in directory.glob(pattern)]
    if len(found) != 1:
        raise Failure(f"a package has {len(found)} files like {' or '.join(patterns)}, not one")
    return found[0]

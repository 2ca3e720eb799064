"""The programs that xenvm runs, and the Debian packages that have them."""

import os
import platform
import shutil
from pathlib import Path

from .errors import Failure

# By architecture, besides those that all need.
_EMULATORS = {
    "x86_64": {"qemu-system-x86_64": "qemu-system-x86"},
    "arm64": {
        "qemu-system-aarch64": "qemu-system-arm",
        "dtc": "device-tree-compiler",
        "aarch64-linux-gnu-gcc": "gcc-aarch64-linux-gnu libc6-dev-arm64-cross",
    },
}
_PACKAGES = {
    "busybox": "busybox-static",
    "depmod": "kmod",
    "setpriv": "util-linux",
    "apt-get": "apt",
    "dpkg-deb": "dpkg",
    "tar": "tar",
}


def check(architecture: str) -> None:
    """Raise Failure, with the line that installs them all, if a program is missing."""
    if architecture == "x86_64" and platform.machine() != "x86_64":
        raise Failure("--arch x86_64 runs this machine's programs: this machine must be x86_64")
    needed = _EMULATORS[architecture] | _PACKAGES
    missing = [name for name in needed if _which(name) is None]
    if "busybox" not in missing and not _is_static(find("busybox")):
        missing.append("busybox (the static one)")
    if missing:
        raise Failure(
            f"not installed: {', '.join(missing)}. This installs all that xenvm needs:\n"
            f"    sudo apt install {' '.join(needed.values())}"
        )


def find(name: str) -> Path:
    """Return the path of a program that check() has found."""
    path = _which(name)
    if path is None:
        raise Failure(f"{name} is not installed")
    return Path(path)


def _which(name: str) -> str | None:
    # depmod is in sbin, which a normal user's PATH lacks on Debian.
    return shutil.which(name, path=f"{os.environ.get('PATH', os.defpath)}:/usr/sbin:/sbin")


def _is_static(program: Path) -> bool:
    """Return whether a program is static: others name their loader near their start."""
    with program.open("rb") as file:
        return b"/ld-linux" not in file.read(4096)

"""Xen's toolstack, in a dom0, and some of its hypercalls, made directly."""

import ctypes
import errno
import fcntl
import mmap
import os
import platform
import signal
import struct
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext, suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NoReturn

from .limits import TIMEOUT

_VERSION = Path("/sys/hypervisor/version")


def press_debug_key(unavailable: Callable[[str], NoReturn]) -> None:
    """Make Xen print to its console ring."""
    subprocess.run([_programs(unavailable) / "xl", "debug-keys", "h"], check=True, timeout=TIMEOUT)


def list_ports(unavailable: Callable[[str], NoReturn]) -> str:
    """Return the output of lsevtchn for dom0."""
    command = [_programs(unavailable) / "lsevtchn"]
    return subprocess.run(
        command, capture_output=True, text=True, check=True, timeout=TIMEOUT
    ).stdout


@contextmanager
def xenstored(unavailable: Callable[[str], NoReturn]) -> Iterator[None]:
    """Run xenstored while the context lasts."""
    program = _programs(unavailable) / "xenstored"
    for needed in ("/run/xen", "/run/xenstored", "/var/lib/xenstored", "/var/log/xen"):
        Path(needed).mkdir(parents=True, exist_ok=True)
    with _daemon(program):
        yield


@contextmanager
def domain_builder(
    unavailable: Callable[[str], NoReturn], *, has_consoles: bool = True
) -> Iterator[Path]:
    """Run the daemons that creating a domain needs, while the context lasts.

    Args:
        unavailable: ends a test on a machine without the toolstack.
        has_consoles: whether xenconsoled runs.

    Yields:
        The folder with the toolstack's programs.
    """
    programs = _programs(unavailable)
    with xenstored(unavailable):
        subprocess.run(
            [programs / "xen-init-dom0"], stdout=subprocess.DEVNULL, check=True, timeout=TIMEOUT
        )
        with _daemon(programs / "xenconsoled") if has_consoles else nullcontext():
            yield programs


@contextmanager
def _daemon(program: Path) -> Iterator[None]:
    """Run a daemon of the toolstack while the context lasts."""
    with TemporaryDirectory() as folder:
        pid_file = Path(folder, "pid")
        # It goes into the background after it has bound its ports.
        subprocess.run([program, "--pid-file", pid_file], check=True, timeout=TIMEOUT)
        try:
            yield
        finally:
            os.kill(int(pid_file.read_text()), signal.SIGKILL)


def let_a_domain_die() -> None:
    """Create an empty domain, without memory, and destroy it."""
    _domctl(_DESTROY_DOMAIN, _domctl(_CREATE_DOMAIN, 0, _NEW_DOMAIN))


def pause_domain(domid: int) -> None:
    """Do the same as `xl pause`, faster."""
    _domctl(_PAUSE_DOMAIN, domid)


def unpause_domain(domid: int) -> None:
    """Do the same as `xl unpause`, faster."""
    _domctl(_UNPAUSE_DOMAIN, domid)


# From Linux's <xen/privcmd.h> and Xen's public headers xen.h and domctl.h.
_PRIVCMD_HYPERCALL = 0x305000
_HYPERVISOR_DOMCTL = 36
_DOMCTL_VERSIONS = range(0x15, 0x18)  # Xen 4.17 to 4.20
_CREATE_DOMAIN, _DESTROY_DOMAIN, _PAUSE_DOMAIN, _UNPAUSE_DOMAIN = 1, 2, 3, 4
_DOMCTL_HEADER = struct.Struct("=IIH6x")
# On Arm each domain has XEN_DOMCTL_CDF_hvm and XEN_DOMCTL_CDF_hap. One vCPU, 1023 ports, and the
# minimum of one grant frame and one maptrack frame.
_FLAGS = 3 if platform.machine() == "aarch64" else 0
_NEW_DOMAIN = struct.pack(
    "=I16sIIIIiiIII", 0, b"pyxenevtchn-test", _FLAGS, 0, 1, 1023, 1, 1, 1, 0, 0
)


def _domctl(command: int, domid: int, body: bytes = b"") -> int:
    """Make a domctl hypercall; return the domid, which Xen chooses for a new domain."""
    for version in _DOMCTL_VERSIONS:
        # EACCES: Xen has another version.
        with suppress(PermissionError):
            return _domctl_of(version, command, domid, body)
    raise OSError(errno.EACCES, f"Xen knows none of the domctl versions {_DOMCTL_VERSIONS}")


def _domctl_of(version: int, command: int, domid: int, body: bytes) -> int:
    with (
        open("/dev/xen/privcmd", "r+b", buffering=0) as privcmd,  # noqa: PTH123
        open("/dev/xen/hypercall", "r+b", buffering=0) as buffers,  # noqa: PTH123
        mmap.mmap(buffers.fileno(), mmap.PAGESIZE) as page,
    ):
        page.write(_DOMCTL_HEADER.pack(command, version, domid) + body)
        address = ctypes.addressof(ctypes.c_char.from_buffer(page))
        arguments = struct.pack("=6Q", _HYPERVISOR_DOMCTL, address, 0, 0, 0, 0)
        fcntl.ioctl(privcmd, _PRIVCMD_HYPERCALL, arguments)
        return int(_DOMCTL_HEADER.unpack_from(page)[2])


def _programs(unavailable: Callable[[str], NoReturn]) -> Path:
    """Return the folder in which Debian has the tools of the running hypervisor's version."""
    version = ".".join((_VERSION / part).read_text().strip() for part in ("major", "minor"))
    programs = Path(f"/usr/lib/xen-{version}/bin")
    if not programs.exists():
        unavailable(f"needs a toolstack of Xen {version}: tools/xenvm --toolstack brings it")
    return programs

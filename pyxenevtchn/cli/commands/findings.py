"""What doctor checks: Xen, the kernel, the driver, its node. It changes no port."""

import errno
import os
import platform
import stat
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import NamedTuple

from ...abi import FEATURE_DOM0, UINT32_MAX, virq_name
from ...channel import EventChannel
from ...device import Device
from ...opening import open_device
from ..options import is_fake
from ..output import reason


class Finding(NamedTuple):
    """The result of one check.

    Attributes:
        name: what was checked.
        ok: whether it is as it should be.
        text: what was found.
        hint: what to do, if it is not ok.
    """

    name: str
    ok: bool
    text: str
    hint: str | None = None


def examine(device: str, root: Path = Path("/")) -> Iterator[Finding]:
    """Check everything that an open of the device depends on, and open it.

    Args:
        device: the device's name.
        root: the folder with proc and sys.

    Yields:
        The findings; the one named "open" says whether the device can be used.
    """
    fake = is_fake(device)
    yield Finding("kernel", ok=True, text=f"Linux {platform.release()}")
    xen = _xen(root / "sys/hypervisor", root / "proc/xen")
    yield xen._replace(ok=True, hint=None) if fake else xen
    if xen.ok:
        yield _domain(root)
    if fake:
        yield Finding("device", ok=True, text=f"{device} is a fake: no Xen is needed")
    else:
        misc = _read(root / "proc/misc")
        minor = _minor(misc)
        yield _driver(minor, root / "sys/module/xen_evtchn")
        yield _node(Path(device), minor)
    yield from _open(device)


def _xen(hypervisor: Path, proc: Path) -> Finding:
    kind = _read(hypervisor / "type")
    if kind == "xen":
        version = hypervisor / "version"
        number = f"{_read(version / 'major')}.{_read(version / 'minor')}{_read(version / 'extra')}"
        guest = _read(hypervisor / "guest_type")
        return Finding("xen", ok=True, text=f"Xen {number}{f', a {guest} domain' if guest else ''}")
    if proc.is_dir():
        return Finding("xen", ok=True, text=f"Xen, version unknown: {hypervisor} does not exist")
    return Finding(
        "xen",
        ok=False,
        text=f"this machine runs under {kind or 'no known hypervisor'}, not Xen",
        hint="boot under Xen, or use the fake: XENEVTCHN_DEVICE=fake:",
    )


def _domain(root: Path) -> Finding:
    features = root / "sys/hypervisor/properties/features"
    try:
        dom0 = bool(int(_read(features), 16) & FEATURE_DOM0)
        how = f"by {features}"
    except ValueError:
        capabilities = root / "proc/xen/capabilities"
        if not capabilities.exists():
            text = f"unknown: neither {features} nor {capabilities} can be read"
            return Finding("domain", ok=True, text=text)
        dom0 = "control_d" in _read(capabilities)
        how = f"by {capabilities}"
    return Finding("domain", ok=True, text=f"{'dom0' if dom0 else 'domU'} ({how})")


def _minor(misc: str) -> int | None:
    for line in misc.splitlines():
        number, _, name = line.strip().partition(" ")
        if name == "xen/evtchn":
            return int(number)
    return None


def _driver(minor: int | None, module: Path) -> Finding:
    if minor is None:
        return Finding(
            "driver",
            ok=False,
            text="the event-channel driver is not loaded",
            hint="modprobe xen-evtchn; for every boot, a line `xen-evtchn` in"
            " /etc/modules-load.d/xen.conf",
        )
    # A kernel with the driver built in has the directory only if the driver had parameters.
    how = "loaded as a module" if (module / "initstate").exists() else "built into the kernel"
    return Finding("driver", ok=True, text=how)


def _node(path: Path, minor: int | None) -> Finding:
    try:
        status = path.stat()
    except OSError as error:
        hint = None if minor is None else f"mkdir -p {path.parent}; mknod {path} c 10 {minor}"
        return Finding("node", ok=False, text=f"{path}: {error.strerror}", hint=hint)
    mode = stat.filemode(status.st_mode)
    text = f"{path}: {mode}, of user {status.st_uid} and group {status.st_gid}"
    if not stat.S_ISCHR(status.st_mode):
        return Finding("node", ok=False, text=f"{text}: no device", hint="name the driver's node")
    if minor is not None and status.st_rdev != os.makedev(10, minor):
        numbers = f"{os.major(status.st_rdev)},{os.minor(status.st_rdev)}"
        hint = f"the driver's numbers are 10,{minor}: mknod {path} c 10 {minor}"
        return Finding("node", ok=False, text=f"{text}: device {numbers}", hint=hint)
    if not os.access(path, os.R_OK | os.W_OK):
        user = os.getuid()
        hint = f"run as root, or give user {user} read and write access (a udev rule)"
        return Finding("node", ok=False, text=f"{text}: no access for user {user}", hint=hint)
    return Finding("node", ok=True, text=text)


def _open(device: str) -> Iterator[Finding]:
    try:
        with EventChannel.open(device) as channel:
            # Not every file that opens is the driver: check by a request that has no effect.
            has_static = _has_bind_static(channel)
        with closing(open_device(device)) as opened:
            ports = _ports(opened)
    except (OSError, ValueError) as error:
        yield Finding("open", ok=False, text=reason(error), hint=_hint(error))
        return
    yield Finding("open", ok=True, text=f"{device} can be opened")
    text = "supported" if has_static else "not supported by this kernel: it needs Linux 6.6"
    yield Finding("bind_static", ok=True, text=text)
    yield ports


def _ports(device: Device) -> Finding:
    try:
        table = device.port_table()
    except OSError as error:
        return Finding("ports", ok=True, text=f"not known: {reason(error)}", hint=_hint(error))
    bound = [(virq_name(port.virq), port.port) for port in table if port.virq is not None]
    virqs = ", ".join(f"{name} (port {port})" for name, port in bound) or "none"
    text = f"this domain has {len(table)}; its VIRQs: {virqs}"
    return Finding("ports", ok=True, text=text)


def _has_bind_static(channel: EventChannel) -> bool:
    """Probe for BIND_STATIC with an impossible port: ENOMEM means that it is supported."""
    try:
        channel.bind_static(UINT32_MAX)
    except OSError as error:
        if error.errno == errno.ENOSYS:
            return False
        if error.errno != errno.ENOMEM:
            raise
    return True


def _hint(error: Exception) -> str | None:
    return "; ".join(getattr(error, "__notes__", ())) or None


def _read(path: Path) -> str:
    try:
        return path.read_text(errors="replace").strip()
    except OSError:
        return ""

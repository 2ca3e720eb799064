"""The arm64 machine: QEMU's arguments for Xen, dom0 and the host's files that dom0 sees."""

from pathlib import Path

from . import foreign, packages
from .device_tree import Module, chosen, device_tree, static_channels
from .domain import Domain, Job
from .initramfs import initramfs
from .kinds import Kind
from .machine import Machine, shared_directories

_EMULATOR = "qemu-system-aarch64"

# The memory of the machine, dom0 and the echo guest, in MiB. dom0's guest addresses are its machine
# addresses, so Xen needs large blocks for it.
_MEMORY, _DOM0, _GUEST = 2500, 1024, 192

# Load addresses of what Xen boots. The machine's memory starts at 0x40000000; Xen is in its first
# MiB, and QEMU's device tree is at 0x48000000.
_KERNEL, _INITRAMFS, _GUEST_INITRAMFS = 0x4A000000, 0x50000000, 0x54000000

_XEN_LINE = "console=dtuart dtuart=/pl011@9000000 dom0_mem={memory}M loglvl=warning console_to_ring"


def machine(kind: Kind, job: Job, console: Path | None) -> Machine:
    """Return a machine of this kind that runs the job."""
    kernel = packages.linux(kind.linux, "arm64")
    system = packages.arm64_system(kind.xen)
    busybox = system / "usr/bin/busybox"
    dom0 = Domain(
        *(kernel, busybox, "arm64", job),
        base=system,
        layers=[foreign.CHECKOUT],
        binds=foreign.programs_for_arm64(system),
    )
    first_root = dom0.initramfs()
    files: dict[str, Path | bytes] = {
        "xen": packages.xen(kind.xen, "arm64"),
        "linux": kernel.image,
        "initramfs": first_root,
    }
    loaded = {"linux": _KERNEL, "initramfs": _INITRAMFS}
    if job.share:
        files["share"] = job.share
    linux = Module(_KERNEL, kernel.image.stat().st_size)
    channels = ""
    if kind.static:
        echo = {name: foreign.echo() / name for name in ("init", "echo")}
        guest = initramfs(
            *(busybox, kernel.modules, ["xen_evtchn"]),
            {name: path.read_bytes() for name, path in echo.items()},
        )
        files["guest"] = guest
        loaded["guest"] = _GUEST_INITRAMFS
        channels = static_channels(
            linux, Module(_GUEST_INITRAMFS, len(guest)), kind.linux_line, _GUEST
        )
    shape = [
        # Debian's Xen supports neither PCI nor ITS on Arm, so virtio uses MMIO.
        *("-machine", "virt,virtualization=on,gic-version=3,its=off", "-cpu", "cortex-a57"),
        *("-m", str(_MEMORY), "-smp", str(kind.processors)),
    ]
    added = chosen(
        kernel=linux,
        initramfs=Module(_INITRAMFS, len(first_root)),
        xen_line=_XEN_LINE.format(memory=_DOM0),
        linux_line=kind.linux_line,
        channels=channels,
    )
    files["tree"] = device_tree([_EMULATOR, *shape], added)
    options = [
        *shape,
        *("-accel", "tcg,thread=multi"),
        *("-kernel", "xen", "-dtb", "tree"),
    ]
    for name, address in loaded.items():
        options += ["-device", f"loader,file={name},addr={address:#x},force-raw=on"]
    for tag, what in shared_directories(files):
        options += ["-fsdev", f"{what},id={tag}"]
        options += ["-device", f"virtio-9p-device,fsdev={tag},mount_tag={tag}"]
    return Machine(_EMULATOR, options, files, memory=_MEMORY, console=console)

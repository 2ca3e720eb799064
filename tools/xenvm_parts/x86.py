"""The x86 machine: QEMU's arguments for Xen, dom0 and the host's files that dom0 sees."""

from collections.abc import Sequence
from pathlib import Path

from . import packages
from .domain import Domain, Job
from .kinds import Kind
from .machine import Machine, shared_directories

# The memory of the machine and of dom0, in MiB. The rest is for Xen and small guests, or for the
# guest that runs the command.
_MEMORY = 2500
_DOM0, _DOM0_BESIDE_A_GUEST = 2250, 900
_GUEST = 1300

# dom0's console goes to Xen's ring too: a write to /dev/hvc0 makes Xen raise VIRQ_CON_RING.
_XEN_LINE = "console=com1 com1=115200,8n1 dom0_mem={memory}M loglvl=warning console_to_ring"

_GUEST_CONFIGURATION = """\
name = "guest"
type = "{type}"
memory = {memory}
vcpus = {vcpus}
kernel = "/host{kernel}"
ramdisk = "/results/initramfs"
cmdline = "{line}"
p9 = [ {shared} ]
# xl's own limit is 1023.
max_event_channels = 131071
# Otherwise Xen emulates RDTSCP, with help from the processor that QEMU's does not give.
tsc_mode = "native"
on_poweroff = "destroy"
on_reboot = "destroy"
on_crash = "destroy"
"""


def machine(
    kind: Kind, job: Job, busybox: Path, console: Path | None, copies: Sequence[Path]
) -> Machine:
    """Return a machine of this kind that runs the job, in a guest with copies of these files."""
    kernel = packages.linux(kind.linux)
    tools = packages.toolstack(kind.xen) if kind.toolstack else None
    files: dict[str, Path | bytes] = {"xen": packages.xen(kind.xen), "linux": kernel.image}
    if kind.guest and tools:
        guest = Domain(kernel, busybox, "guest", job, copies=copies)
        files["results/initramfs"] = guest.initramfs()
        dom0 = Domain(
            *(kernel, busybox, "x86_64", job),
            base=tools,
            part="guest.sh",
            variables={"version": kind.xen},
            files={"guest.cfg": _guest_configuration(kind, kernel.image, job)},
        )
    elif tools:
        variables = {"version": kind.xen, "toolstack": tools}
        dom0 = Domain(kernel, busybox, "x86_64", job, part="toolstack.sh", variables=variables)
    else:
        dom0 = Domain(kernel, busybox, "x86_64", job)
    files["initramfs"] = dom0.initramfs()
    if job.share:
        files["share"] = job.share
    return Machine(
        "qemu-system-x86_64", _options(kind, files), files, memory=_MEMORY, console=console
    )


def _guest_configuration(kind: Kind, kernel: Path, job: Job) -> bytes:
    """Return xl's configuration of the guest that runs the job."""
    shared = {"host": "/host", "results": "/results"}
    if job.share:
        shared["share"] = str(job.share)
    return _GUEST_CONFIGURATION.format(
        type=kind.guest,
        memory=_GUEST,
        vcpus=kind.vcpus,
        kernel=kernel,
        line=kind.linux_line,
        shared=", ".join(
            f'"tag={tag},path={path},security_model=none"' for tag, path in shared.items()
        ),
    ).encode()


def _options(kind: Kind, files: dict[str, Path | bytes]) -> list[str]:
    """Return QEMU's arguments, its paths relative to the directory laid out for it."""
    xen_line = _XEN_LINE.format(memory=_DOM0_BESIDE_A_GUEST if kind.guest else _DOM0)
    # With QEMU 7.2's SMAP a PV dom0 dies of its first page fault. For domains that run on SVM, Xen
    # emulates RDTSCP: see _GUEST_CONFIGURATION.
    processor = "max,smap=off,xsave=off,rdtscp=off"
    options: list[str] = []
    device = ""
    if kind.dom0 == "pvh":
        xen_line += " dom0=pvh"
        options += ["-machine", "q35,kernel-irqchip=off", "-device", "amd-iommu"]
        # A PVH dom0 gives its devices addresses that the IOMMU translates.
        device = ",iommu_platform=on,disable-legacy=on"
    for tag, what in shared_directories(files):
        options += ["-fsdev", f"{what},id={tag}"]
        options += ["-device", f"virtio-9p-pci,fsdev={tag},mount_tag={tag}{device}"]
    return [
        *("-accel", "tcg,thread=multi"),
        *("-cpu", processor, "-smp", str(kind.processors)),
        *("-kernel", "xen", "-append", xen_line),
        *("-initrd", f"linux {kind.linux_line},initramfs"),
        *options,
    ]

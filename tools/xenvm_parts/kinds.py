"""The kinds of machine: which options can be combined."""

import argparse
from dataclasses import dataclass

from . import packages
from .errors import Failure

ARCHITECTURES = ("x86_64", "arm64")
TYPES = ("pv", "pvh", "hvm")
ABIS = ("fifo", "2l")

# By architecture; the first is the default.
LINUX = {"x86_64": ("6.1", "6.12", "7.2"), "arm64": ("6.12",)}
XEN = {"x86_64": ("4.17", "4.20"), "arm64": ("4.20",)}
_MOST_VCPUS = 8

# A kernel's warnings reach the console, its other messages do not; a panic ends the machine.
_LINUX_LINE = "console=hvc0 rdinit=/init loglevel=5 panic=-1"
_TWO_LEVEL = " xen.fifo_events=0"

# trixie's QEMU 10.0 refuses its own backends: "'xen-backend' does not support hotplugging".
GUESTS_XEN = "4.17"


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of machine, and of the domain in which the command runs.

    Attributes:
        architecture: one of ARCHITECTURES.
        linux: the version of every domain's kernel.
        xen: the hypervisor's version.
        dom0: its type on x86_64: "pv" or "pvh".
        guest: the type of the guest in which the command runs; None means dom0.
        abi: the event channels' ABI: "fifo" or "2l".
        static: whether there are static event channels.
        vcpus: how many vCPUs the command's domain has.
        toolstack: whether dom0 has Xen's own tools, of the same version.
        processors: how many processors the machine has; dom0 has a vCPU on each.
    """

    architecture: str
    linux: str
    xen: str
    dom0: str
    guest: str | None
    abi: str
    static: bool
    vcpus: int
    toolstack: bool
    processors: int

    @property
    def linux_line(self) -> str:
        """The command line of every domain's kernel."""
        return _LINUX_LINE + (_TWO_LEVEL if self.abi == "2l" else "")

    def __str__(self) -> str:
        where = f"a {self.guest} guest" if self.guest else "dom0"
        return f"Linux {self.linux} in {where} on Xen {self.xen} for {self.architecture}"


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options that choose a kind."""
    option = parser.add_argument_group("the machine").add_argument
    option("--arch", choices=ARCHITECTURES, default=ARCHITECTURES[0], help="default: x86_64")
    option("--linux", choices=packages.LINUX, help="every domain's kernel (default: 6.1)")
    option("--xen", choices=packages.XEN, help="the hypervisor (default: 4.17)")
    option("--dom0", choices=TYPES[:2], help="dom0's type, on x86_64 (default: pv)")
    option("--guest", choices=TYPES, help="run the command in a guest of this type, not in dom0")
    option("--abi", choices=ABIS, default=ABIS[0], help="the event channels' ABI (default: fifo)")
    option(
        "--vcpus",
        type=int,
        metavar="N",
        help="vCPUs of the command's domain (default: 2, where that works). With more than 1 in "
        "dom0, PVH and HVM guests beside it are unreliable: QEMU sometimes interrupts them twice",
    )
    option(
        "--static",
        action="store_true",
        help="static event channels, on arm64: dom0's ports 10 and 11 are connected to each "
        "other, 12 and 13 to ports 10 and 11 of a guest that sends every event from 12 back, and "
        "an event to 13 each second",
    )
    option(
        "--toolstack",
        action="store_true",
        help="Xen's own tools, of the same version, in dom0: /usr/lib/xen-VERSION/bin, and xl",
    )


def chosen(options: argparse.Namespace) -> Kind:
    """Return the kind that the options choose.

    Raises:
        Failure: there is no such kind.
    """
    arch: str = options.arch
    linux: str = options.linux or LINUX[arch][0]
    xen: str = options.xen or XEN[arch][0]
    for name, value, known in (("Linux", linux, LINUX[arch]), ("Xen", xen, XEN[arch])):
        if value not in known:
            raise Failure(f"no {name} {value} for {arch}: there is {' and '.join(known)}")
    if arch == "arm64" and (options.dom0 or options.guest):
        raise Failure("--dom0 and --guest are for x86_64 only")
    if options.guest and xen != GUESTS_XEN:
        raise Failure(
            f"Debian's QEMU for Xen {xen} gives guests no files: --guest needs --xen {GUESTS_XEN}"
        )
    if options.static and arch != "arm64":
        raise Failure("static event channels come from a device tree: --static needs --arch arm64")
    # On two processors QEMU 7.2 sometimes makes Linux 7.2 panic. And it delivers an interrupt of
    # Xen's twice to a domain that runs on AMD's SVM, if it switches processors at that moment. A
    # guest that runs the command and dom0 mostly wait for each other.
    processors = 1 if linux == "7.2" or options.dom0 == "pvh" or options.guest else 2
    vcpus = options.vcpus or (2 if options.guest else processors)
    if not 1 <= vcpus <= _MOST_VCPUS:
        raise Failure(f"--vcpus must be 1 to {_MOST_VCPUS}")
    if not options.guest:
        if vcpus > processors == 1:
            raise Failure(
                "with Linux 7.2, or a PVH dom0, QEMU's emulation fails on more than 1 vCPU"
            )
        processors = vcpus
    return Kind(
        architecture=arch,
        linux=linux,
        xen=xen,
        dom0=options.dom0 or "pv",
        guest=options.guest,
        abi=options.abi,
        static=options.static,
        vcpus=vcpus,
        # They start the guest.
        toolstack=options.toolstack or bool(options.guest),
        processors=processors,
    )

"""The domain that the tests run in."""

import platform
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from pyxenevtchn import DOMID_FIRST_RESERVED, DOMID_SELF, EventChannel, Virq
from pyxenevtchn.abi import DOM0_KERNEL_VIRQS, Machine

_TYPE = Path("/sys/hypervisor/guest_type")
_COMMAND_LINE = Path("/proc/cmdline")
_CAPABILITIES = Path("/proc/xen/capabilities")


@dataclass(frozen=True)
class Here:
    """A domain.

    Attributes:
        domid: its number.
        held: the VIRQs that its kernel has bound.
        silo: whether Xen's policy is XSM SILO, which lets guests connect with dom0 alone.
    """

    domid: int
    held: frozenset[Virq]
    silo: bool = False


# dom0 of a fake.
FAKE = Here(0, frozenset(DOM0_KERNEL_VIRQS["pv"]))


def machine() -> Machine:
    """Tell which kind of domain this is: a dom0's name stands for a guest that is like it."""
    if platform.machine() == "aarch64":
        return "arm64"
    return "pv" if _TYPE.read_text().strip() == "PV" else "pvh"


def is_dom0() -> bool:
    """Tell whether this is a dom0, or no domain at all."""
    return not _CAPABILITIES.exists() or "control_d" in _CAPABILITIES.read_text()


def has_fifo() -> bool:
    """Tell whether this domain's event channels have the FIFO ABI, and not the 2-level one."""
    return "xen.fifo_events=0" not in _COMMAND_LINE.read_text().split()


def has_lsevtchn() -> bool:
    """Tell whether the toolstack lists ports: Xen's for Arm does not."""
    return is_dom0() and machine() != "arm64"


def has_silo() -> bool:
    """Tell whether Xen's policy is XSM SILO: Debian's Xen for Arm has it by default."""
    return machine() == "arm64"


@cache
def real() -> Here:
    """Return this domain."""
    # A guest's kernel has a timer of Xen's, on x86, and another console.
    held = {Virq.TIMER} & {*DOM0_KERNEL_VIRQS[machine()]}
    if is_dom0():
        held |= {*DOM0_KERNEL_VIRQS[machine()]}
    if machine() != "arm64" and not has_fifo():
        held.add(Virq.DEBUG)
    return Here(_domid(), frozenset(held), has_silo())


def _domid() -> int:
    """Return the one domid by which this domain can connect to its own port."""
    with EventChannel.open() as channel:
        port = channel.bind_unbound_port(DOMID_SELF)
        for domid in range(DOMID_FIRST_RESERVED):
            try:
                channel.bind_interdomain(domid, port)
            except OSError:
                continue
            return domid
    raise AssertionError("this domain has no domid")

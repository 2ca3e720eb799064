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
        silo: whether Xen's policy is XSM SILO, under which guests can connect to dom0 only.
    """

    domid: int
    held: frozenset[Virq]
    silo: bool = False


# A fake's dom0.
FAKE = Here(0, frozenset(DOM0_KERNEL_VIRQS["pv"]))


def machine() -> Machine:
    """Return the type of this domain; a guest has the name of the dom0 of the same type."""
    if platform.machine() == "aarch64":
        return "arm64"
    return "pv" if _TYPE.read_text().strip() == "PV" else "pvh"


def is_dom0() -> bool:
    """Return whether this is a dom0, or a machine without Xen."""
    return not _CAPABILITIES.exists() or "control_d" in _CAPABILITIES.read_text()


def has_fifo() -> bool:
    """Return whether this domain's event channels use the FIFO ABI, not the 2-level one."""
    return "xen.fifo_events=0" not in _COMMAND_LINE.read_text().split()


def has_lsevtchn() -> bool:
    """Return whether the toolstack has lsevtchn: Xen's toolstack for Arm does not have it."""
    return is_dom0() and machine() != "arm64"


def has_silo() -> bool:
    """Return whether Xen's policy is XSM SILO: it is the default of Debian's Xen for Arm."""
    return machine() == "arm64"


@cache
def real() -> Here:
    """Return this domain."""
    # On x86 a guest's kernel binds VIRQ_TIMER too; its console is an interdomain port, not a VIRQ.
    held = {Virq.TIMER} & {*DOM0_KERNEL_VIRQS[machine()]}
    if is_dom0():
        held |= {*DOM0_KERNEL_VIRQS[machine()]}
    if machine() != "arm64" and not has_fifo():
        held.add(Virq.DEBUG)
    return Here(_domid(), frozenset(held), has_silo())


def _domid() -> int:
    """Return this domain's number: the only domid by which it can connect to its own port."""
    with EventChannel.open() as channel:
        port = channel.bind_unbound_port(DOMID_SELF)
        for domid in range(DOMID_FIRST_RESERVED):
            try:
                channel.bind_interdomain(domid, port)
            except OSError:
                continue
            return domid
    raise AssertionError("this domain has no domid")

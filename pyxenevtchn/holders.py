"""Who holds a port, if it can be known: the kernel does not tell which process has which port."""

import os
import stat
from collections.abc import Callable, Iterable
from typing import NamedTuple, TypeVar

from .abi import VirqScope, virq_name, virq_scope
from .ports import Port

T = TypeVar("T")


class Process(NamedTuple):
    """A process that has a device open.

    Attributes:
        pid: the process ID.
        name: the program's name, at most 15 bytes.
    """

    pid: int
    name: str


def processes(device: int) -> list[Process]:
    """Return the processes that have a character device open, in order of pid; root sees all.

    Args:
        device: the device's number, as in ``st_rdev``.
    """
    found = []
    for pid in filter(str.isdecimal, os.listdir("/proc")):
        folder = f"/proc/{pid}"
        fds = _try(os.listdir, f"{folder}/fd") or ()
        if any(_is_of(f"{folder}/fd/{fd}", device) for fd in fds):
            found.append(Process(int(pid), program_name(int(pid)) or "?"))
    return sorted(found)


def program_name(pid: int) -> str:
    """Return the name of a process's program, at most 15 bytes; ``?`` if the process has ended."""
    name = _try(_read, f"/proc/{pid}/comm")
    return "?" if name is None else name.removesuffix("\n")


def virq_port(table: Iterable[Port], virq: int) -> Port | None:
    """Return the port, if any, that keeps the driver from binding a VIRQ on vCPU 0.

    Args:
        table: the domain's ports.
        virq: the VIRQ's number.
    """
    on_any = virq_scope(virq) != VirqScope.VCPU
    return next((p for p in table if p.virq == virq and (on_any or p.vcpu == 0)), None)


def describe_virq(virq: int, table: Iterable[Port], fd: int) -> str | None:
    """Return a text that says who holds a VIRQ of this domain; None if nobody does.

    Args:
        virq: the VIRQ's number.
        table: the domain's ports.
        fd: a descriptor of the device; this process does not count as a holder.
    """
    port = virq_port(table, virq)
    if port is None:
        return None
    return f"{virq_name(virq)} is bound to port {port.port}, and its holder is {_holder(port, fd)}"


def _holder(port: Port, fd: int) -> str:
    if port.kernel or port.daemon:
        return port.daemon or "the kernel itself"
    status = os.fstat(fd)
    if port.kernel is False or not stat.S_ISCHR(status.st_mode):
        return "another handle"
    found = processes(status.st_rdev)
    others = [f"{each.name} ({each.pid})" for each in found if each.pid != os.getpid()]
    if not others:
        return "the kernel itself: no other process has the device open"
    return f"the kernel itself, or a process that has the device open: {', '.join(others)}"


def _is_of(link: str, device: int) -> bool:
    # Only /dev: a stat of a file on a network file system can block.
    if "/dev/" not in (_try(os.readlink, link) or ""):
        return False
    status = _try(os.stat, link)
    return status is not None and stat.S_ISCHR(status.st_mode) and status.st_rdev == device


def _read(path: str) -> str:
    with open(path, errors="surrogateescape") as file:
        return file.read()


def _try(call: Callable[[str], T], path: str) -> T | None:
    """Make a call about a process; return None if it has ended or belongs to another user."""
    try:
        return call(path)
    except OSError as error:
        if not error.errno:
            raise  # from a signal handler
        return None

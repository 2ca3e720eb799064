"""The exceptions, and the hints that come with them.

::

    OSError             with the driver's errno, in Python's own subclass for it:
     |                  PermissionError, FileExistsError, BlockingIOError, ...
     +- RingOverflow    EFBIG: the handle's ring was full and events were dropped
     +- PartialNotify   notify_many stopped in the middle; it says where
     +- StaleHandle     EEXIST: the domain was restored, and the handle's ports are gone
    ValueError
     +- ChannelClosed   the handle is closed, or was closed while the call waited

An OSError names the operation with its arguments and keeps the errno. A hint, if there is one, is a
note on the exception (PEP 678).
"""

import errno
import os

from .abi import KERNEL, Request, Virq, virq_holder, virq_name


class RingOverflow(OSError):
    """The handle's ring was full when an event arrived: it and maybe more were dropped (EFBIG).

    Every read fails with it until the ring is reset (driver).
    """


class PartialNotify(OSError):
    """``notify_many`` stopped at a port that could not be notified.

    Attributes:
        port: that port.
        sent: how many ports before it were notified.
    """

    port: int
    sent: int


class StaleHandle(OSError):
    """The domain was saved and restored, and this handle has lost its ports (EEXIST).

    Xen does not have these ports any more, and the driver does not know it. No event arrives.
    Releasing a port, by an unbind, by closing the descriptor or by ending the process, is a kernel
    BUG, or closes the port that has the number now. So a handle that is known to be stale raises
    this for every call, and ``close`` leaves its descriptor open.
    """


class ChannelClosed(ValueError):
    """The handle is closed, or was closed by another thread during this call."""


def operation_error(
    operation: str, arguments: tuple[int, ...], number: int, device: str
) -> OSError:
    """Return the exception for a failed request, read or write.

    Args:
        operation: a Request, "read" or "write".
        arguments: the request's arguments, in the order of its struct.
        number: the errno.
        device: the device's name, for the message.
    """
    kind = RingOverflow if number == errno.EFBIG else OSError
    if is_stale(operation, number):
        kind = StaleHandle
    error = kind(number, _failure(operation, arguments, number), device)
    hint = _HINTS.get((operation, number)) or _HINTS.get(("", number))
    if operation == Request.BIND_VIRQ and number == errno.EEXIST:
        hint = _virq_holder_hint(arguments[0])
    if hint:
        error.add_note(hint)
    return error


def is_stale(operation: str, number: int) -> bool:
    """Return whether an error of a request means that the domain was restored.

    EEXIST means that Xen allocated a number that the driver still records for the handle. Without a
    restore only another handle's BIND_STATIC can cause that, and then too the handle has lost the
    port. EEXIST of BIND_VIRQ can also mean that the VIRQ is already bound.
    """
    return number == errno.EEXIST and operation in {
        Request.BIND_UNBOUND_PORT,
        Request.BIND_INTERDOMAIN,
    }


def stale_handle(device: str) -> StaleHandle:
    """Return the exception for a call of a handle that is known to be stale."""
    error = StaleHandle(
        errno.EEXIST,
        "the handle is stale: this domain was restored, and its ports are gone",
        device,
    )
    error.add_note(STALE_HINT)
    return error


def stale_bind(virq: int, device: str) -> StaleHandle:
    """Return the exception for a BIND_VIRQ whose failure showed that the handle is stale."""
    text = _failure(Request.BIND_VIRQ, (virq,), errno.EEXIST)
    error = StaleHandle(errno.EEXIST, text, device)
    error.add_note(_RESTORED)
    return error


def partial_notify(port: int, sent: int, number: int, device: str) -> PartialNotify:
    """Return the exception for a port that ended notify_many.

    Args:
        port: the port.
        sent: how many ports before it were notified.
        number: the errno.
        device: the device's name, for the message.
    """
    cause = operation_error(Request.NOTIFY, (port,), number, device)
    error = PartialNotify(number, f"{cause.strerror}, after {sent} ports were notified", device)
    error.port, error.sent = port, sent
    for hint in getattr(cause, "__notes__", ()):
        error.add_note(hint)
    return error


def open_error(error: OSError, path: str) -> OSError:
    """Add a hint for this machine to an error of open(2), and return it."""
    hint = _open_hint(error.errno, path)
    if hint:
        error.add_note(hint)
    return error


def privcmd_error(error: OSError, *, is_open: bool) -> OSError:
    """Add a hint to an error of privcmd, and return it.

    Args:
        error: the error of open(2) or of the hypercall.
        is_open: whether it is of the hypercall.
    """
    hint = _status_hint(error.errno) if is_open else _open_privcmd_hint(error.errno)
    if hint:
        error.add_note(hint)
    return error


def _status_hint(number: int | None) -> str | None:
    if number == errno.ESRCH:
        return _NO_DOMAIN
    if number not in {errno.EPERM, errno.EACCES}:
        return None
    return (
        "only dom0 can list ports: in a domU Linux forbids it (XSA-482), and in dom0 Xen's policy"
        " can forbid it (XSM FLASK)"
    )


def _open_privcmd_hint(number: int | None) -> str | None:
    if number in {errno.EACCES, errno.EPERM}:
        return "ports are listed through privcmd, which only root can open: run as root"
    if number not in {errno.ENOENT, errno.ENODEV, errno.ENXIO}:
        return None
    if not _under_xen():
        return _NO_XEN
    return "ports are listed through privcmd, whose driver is not loaded: modprobe xen-privcmd"


def _failure(operation: str, arguments: tuple[int, ...], number: int) -> str:
    return f"{operation}({_describe(operation, arguments)}): {os.strerror(number)}"


def _describe(operation: str, arguments: tuple[int, ...]) -> str:
    if operation == Request.BIND_VIRQ:
        return f"virq={virq_name(arguments[0])}"
    if isinstance(operation, Request):
        names = operation.parameters
        return ", ".join(f"{name}={value}" for name, value in zip(names, arguments, strict=True))
    return ", ".join(map(str, arguments))


def _virq_holder_hint(virq: int) -> str:
    return (
        f"{_virq_holder(virq)}. In dom0, xenevtchn bind-virq says who has it. Or this domain was"
        f" restored, and this handle is stale: then {STALE_HINT}"
    )


def _virq_holder(virq: int) -> str:
    name = virq_name(virq)
    holder = virq_holder(virq)
    if holder == KERNEL:
        dom0 = "dom0" if virq_holder(virq, "pvh") == KERNEL else "a PV dom0"
        return f"{_ONCE}, and in {dom0} the kernel itself holds {name}"
    if virq == Virq.DEBUG:
        return f"{_ONCE}; another handle holds {name}, or the kernel, if its ABI is 2-level"
    if holder:
        return f"{_ONCE}; {name} is usually held by {holder}"
    return f"{_ONCE}; a handle already holds {name}, perhaps this one"


STALE_HINT = (
    "open a new handle and bind the ports there. Closing this handle's descriptor is a kernel BUG,"
    " and so is the end of the process: reboot the domain when you can"
)
_NO_DOMAIN = "no domain has that domid; `xl list` shows the domains"
_RESTORED = f"this domain was restored: {STALE_HINT}"
_ONCE = "a VIRQ can be bound once in a domain"

_RESTRICTED = "the handle is restricted, permanently: it can connect only to its one domain"
_RESTRICTED_OR_FLASK = (
    f"{_RESTRICTED}; if it is not, Xen's policy forbids the connection (XSM FLASK)"
)
_SILO = "Xen's policy forbids it: under XSM SILO a domain can connect only to dom0 and to itself"

TOO_MANY_FILES = (
    "this process has as many descriptors open as it may have (RLIMIT_NOFILE): a handle needs two;"
    " one handle can have any number of ports"
)

# By operation and errno; the empty operation means any.
_HINTS: dict[tuple[str, int], str] = {
    (Request.BIND_VIRQ, errno.EINVAL): "Xen has no such VIRQ, or it cannot be bound on vCPU 0",
    (Request.BIND_VIRQ, errno.EBUSY): (
        "this domain does not handle the VIRQ: dom0 does, unless the toolstack set another domain"
        " (before Xen 4.21 the VIRQ can be bound, but never fires)"
    ),
    (Request.BIND_VIRQ, errno.EACCES): _RESTRICTED,
    (Request.BIND_UNBOUND_PORT, errno.EACCES): _RESTRICTED_OR_FLASK,
    (Request.BIND_INTERDOMAIN, errno.EACCES): _RESTRICTED_OR_FLASK,
    (Request.BIND_UNBOUND_PORT, errno.EEXIST): _RESTORED,
    (Request.BIND_INTERDOMAIN, errno.EEXIST): _RESTORED,
    (Request.BIND_UNBOUND_PORT, errno.EPERM): (
        f"{_SILO}; under XSM FLASK, no domain has that domid"
    ),
    (Request.BIND_INTERDOMAIN, errno.EPERM): _SILO,
    (Request.BIND_UNBOUND_PORT, errno.ESRCH): (
        "no domain has that domid, and Xen's policy (XSM SILO) requires one"
    ),
    (Request.BIND_INTERDOMAIN, errno.ESRCH): _NO_DOMAIN,
    (Request.BIND_INTERDOMAIN, errno.EINVAL): (
        "the remote port must be unbound and allocated for this domain: perhaps the remote side"
        " has not allocated it yet, allocated it for another domain, or it is already connected"
    ),
    (Request.RESTRICT_DOMID, errno.EACCES): "a handle can be restricted only once",
    (Request.RESTRICT_DOMID, errno.EINVAL): "a handle cannot be restricted to dom0 or to a"
    f" reserved domid ({0x7FF0} and above)",
    (Request.UNBIND, errno.ENOTCONN): "this handle did not bind that port",
    (Request.UNBIND, errno.EINVAL): "the port is higher than any that this kernel can have",
    (Request.NOTIFY, errno.ENOTCONN): "a handle can notify only the ports that it bound itself",
    (Request.BIND_STATIC, errno.ENOSYS): "static ports need Linux 6.6 or newer",
    (Request.BIND_STATIC, errno.EISCONN): "this handle has already bound that port",
    (Request.BIND_STATIC, errno.ENOMEM): "the port is higher than any that this kernel can have",
    ("read", errno.EFBIG): (
        "call reset() to empty the ring and clear the overflow, then unmask() every bound port:"
        " the driver leaves them masked"
    ),
    ("", errno.ENOSPC): (
        "the domain has no free port left: close handles that are not needed, or raise"
        " max_event_channels in the domain's configuration, 1023 by default (dom0 has no such"
        " limit)"
    ),
    ("", errno.EMFILE): TOO_MANY_FILES,
    ("", errno.ENOTTY): (
        "the descriptor does not belong to the event-channel driver, or this is a 32-bit program"
        " on a 64-bit kernel, which the driver does not support"
    ),
    ("", errno.ENODEV): "this domain of the fake no longer exists",
    ("", errno.ECONNRESET): "the server of this fake has ended",
}


_NO_XEN = "this machine does not run under Xen; without Xen, use the fake: XENEVTCHN_DEVICE=fake:"


def _under_xen() -> bool:
    return os.path.exists("/proc/xen") or os.path.exists("/sys/hypervisor/type")


def _open_hint(number: int | None, path: str) -> str | None:
    if number in {errno.EACCES, errno.EPERM}:
        return f"run as root, or give your user read and write access to {path} (a udev rule)"
    if number in {errno.EMFILE, errno.ENOTTY}:
        return _HINTS["", number]
    if number not in {errno.ENOENT, errno.ENODEV, errno.ENXIO}:
        return None
    if not _under_xen():
        return _NO_XEN
    if not os.path.exists("/sys/module/xen_evtchn"):
        return "the driver is not loaded: modprobe xen-evtchn"
    return f"the driver is loaded but {path} is not its node: look for `evtchn` in /proc/misc"

"""The errno, class, message and hint of a request that the driver refuses."""

import errno

import pytest

from pyxenevtchn import Request, RingOverflow, Virq
from pyxenevtchn.errors import operation_error, privcmd_error

DEVICE = "/dev/xen/evtchn"


@pytest.mark.parametrize(
    ("operation", "arguments", "number", "kind"),
    [
        (Request.BIND_VIRQ, (8,), errno.EEXIST, FileExistsError),
        (Request.BIND_VIRQ, (8,), errno.EACCES, PermissionError),
        (Request.BIND_INTERDOMAIN, (3, 4), errno.ESRCH, ProcessLookupError),
        (Request.NOTIFY, (4,), errno.ENOTCONN, OSError),
        (Request.BIND_STATIC, (4,), errno.ENOSYS, OSError),
        ("read", (4096,), errno.EAGAIN, BlockingIOError),
        ("read", (4096,), errno.EFBIG, RingOverflow),
    ],
)
def test_an_error_has_the_class_of_its_errno(
    operation: str, arguments: tuple[int, ...], number: int, kind: type[OSError]
) -> None:
    error = operation_error(operation, arguments, number, DEVICE)
    assert type(error) is kind
    assert error.errno == number
    assert error.filename == DEVICE


def test_the_message_names_the_operation_and_its_arguments() -> None:
    error = operation_error(Request.BIND_INTERDOMAIN, (3, 4), errno.ESRCH, DEVICE)
    assert "bind_interdomain(remote_domain=3, remote_port=4): No such process" in str(error)
    assert DEVICE in str(error)
    assert "bind_virq(virq=CON_RING)" in str(
        operation_error(Request.BIND_VIRQ, (8,), errno.EEXIST, DEVICE)
    )


@pytest.mark.parametrize(
    ("virq", "holder"),
    [
        (Virq.TIMER, "in dom0 the kernel itself"),
        (Virq.MCA, "in a PV dom0 the kernel itself"),
        (Virq.DOM_EXC, "xenstored"),
        (Virq.CON_RING, "xenconsoled"),
        (Virq.TBUF, "xentrace"),
        (Virq.ENOMEM, "xen-lowmemd"),
        (Virq.DEBUG, "or the kernel, if its ABI is 2-level"),
        (Virq.ARGO, "a handle already holds ARGO"),
        (5, "a handle already holds 5"),
    ],
)
def test_who_holds_a_virq(virq: int, holder: str) -> None:
    error = operation_error(Request.BIND_VIRQ, (virq,), errno.EEXIST, DEVICE)
    assert holder in error.__notes__[0]


@pytest.mark.parametrize(
    ("operation", "arguments", "number", "word"),
    [
        (Request.BIND_VIRQ, (8,), errno.ENOSPC, "max_event_channels"),
        (Request.BIND_INTERDOMAIN, (3, 4), errno.ENOSPC, "max_event_channels"),
        (Request.BIND_INTERDOMAIN, (3, 4), errno.EPERM, "SILO"),
        (Request.BIND_INTERDOMAIN, (3, 4), errno.EACCES, "FLASK"),
        (Request.BIND_UNBOUND_PORT, (3,), errno.EPERM, "SILO"),
        (Request.BIND_UNBOUND_PORT, (3,), errno.EACCES, "restricted"),
        (Request.BIND_UNBOUND_PORT, (3,), errno.ESRCH, "SILO"),
        (Request.NOTIFY, (3,), errno.ENOTTY, "32-bit program"),
    ],
)
def test_what_the_configuration_forbids(
    operation: str, arguments: tuple[int, ...], number: int, word: str
) -> None:
    assert word in operation_error(operation, arguments, number, DEVICE).__notes__[0]


@pytest.mark.parametrize(
    ("number", "is_open", "word"),
    [
        (errno.EACCES, False, "run as root"),
        (errno.EPERM, True, "only dom0"),
        (errno.EACCES, True, "Xen's policy"),
        (errno.ESRCH, True, "xl list"),
    ],
)
def test_the_hint_says_what_access_to_privcmd_needs(number: int, is_open: bool, word: str) -> None:
    (hint,) = privcmd_error(OSError(number, "", DEVICE), is_open=is_open).__notes__
    assert word in hint


def test_an_errno_without_advice_has_no_hint() -> None:
    assert not hasattr(privcmd_error(OSError(errno.EIO, "", DEVICE), is_open=True), "__notes__")
    error = operation_error(Request.RESET, (), errno.EIO, DEVICE)
    assert "reset()" in str(error)
    assert not hasattr(error, "__notes__")

"""xenevtchn fake: a hypervisor for many processes on one machine without Xen, and its controls."""

import fcntl
import os
import signal

import click

from ..abi import virq_name
from ..fake import server
from ..fake.hypervisor import State
from ..fake.machine import Port
from ..fake.names import PREFIX, parse
from ..fake.remote import RemoteHypervisor
from ..opening import DEVICE_VARIABLE
from .commands import Group
from .ending import end_by
from .options import DOMAIN, VIRQ, F


def socket_option(command: F) -> F:
    """Give a command ``--socket``."""
    return click.option(
        "--socket",
        "path",
        type=click.Path(),
        callback=_check_path,
        metavar="PATH",
        help=f"The server's socket [default: that of the device, where it is {PREFIX}unix:PATH].",
    )(command)


def socket_path(ctx: click.Context, path: str | None) -> str:
    """Return the socket that was named, or else that of the device that was.

    Raises:
        click.UsageError: neither was.
    """
    if path is not None:
        return path
    device = ctx.obj or os.environ.get(DEVICE_VARIABLE) or ""
    found = parse(device)[0] if device.startswith(PREFIX) else None
    if found is None:
        raise click.UsageError(
            f"name the server's socket: --socket PATH, or {DEVICE_VARIABLE}={PREFIX}unix:PATH", ctx
        )
    return found


def _check_path(ctx: click.Context, param: click.Parameter, path: str | None) -> str | None:
    # In a device's name what follows a question mark is the domain's.
    if path is not None and (not path or "?" in path):
        raise click.BadParameter(f"{path!r} is no path of {PREFIX}unix:PATH", ctx, param)
    return path


def _check_writable(ctx: click.Context, param: click.Parameter, fd: int | None) -> int | None:
    if fd is None:
        return None
    try:
        mode = fcntl.fcntl(fd, fcntl.F_GETFL) & os.O_ACCMODE
    except OSError:
        mode = os.O_RDONLY
    if mode == os.O_RDONLY:
        raise click.BadParameter(f"no descriptor {fd} is open for writing", ctx, param)
    return fd


@click.group(cls=Group)
def fake() -> None:
    """Play Xen for several processes: a hypervisor behind a socket.

    Any process opens a handle in a domain of it by the device name fake:unix:PATH?domid=N.
    """


@fake.command()
@socket_option
@click.option(
    "--ready-fd",
    type=click.IntRange(min=0),
    callback=_check_writable,
    metavar="FD",
    help="Write a newline to this descriptor, and close it, when clients can come.",
)
@click.pass_context
def serve(ctx: click.Context, path: str | None, ready_fd: int | None) -> None:
    """Serve a new hypervisor with a dom0.

    It goes on until Ctrl-C or SIGTERM. One line on standard output says when clients can come. Only
    the user who serves and root can. A client's ports are closed when its process ends; when the
    server ends, its clients' handles fail with ECONNRESET.
    """
    path = socket_path(ctx, path)

    def ready() -> None:
        click.echo(f"serving {PREFIX}unix:{path}")
        if ready_fd is not None:
            os.write(ready_fd, b"\n")
            os.close(ready_fd)

    for number in (signal.SIGTERM, signal.SIGHUP):
        end_by(number)
    server.serve(path, ready)


@fake.command("raise-virq")
@click.argument("virq", type=VIRQ)
@click.option(
    "--domain",
    "domid",
    type=DOMAIN,
    default=0,
    show_default=True,
    metavar="DOMID",
    help="Where; dom0 alone handles global VIRQs.",
)
@socket_option
@click.pass_context
def raise_virq(ctx: click.Context, virq: int, domid: int, path: str | None) -> None:
    """Raise a VIRQ, as Xen does.

    VIRQ is a name or a number. Where nobody has bound it nothing happens.
    """
    RemoteHypervisor(socket_path(ctx, path)).raise_virq(virq, domid)


@fake.command()
@click.argument("domid", type=DOMAIN, default=0)
@socket_option
@click.pass_context
def ports(ctx: click.Context, domid: int, path: str | None) -> None:
    """List a domain's ports, as lsevtchn does.

    The domain is DOMID, or dom0.
    """
    for port in RemoteHypervisor(socket_path(ctx, path)).ports(domid):
        click.echo(_describe(port))


@fake.command("create-domain")
@click.argument("domid", type=DOMAIN, required=False)
@socket_option
@click.pass_context
def create_domain(ctx: click.Context, domid: int | None, path: str | None) -> None:
    """Create a domain and print its domid.

    It is DOMID, or the next one that none has had.
    """
    click.echo(RemoteHypervisor(socket_path(ctx, path)).create_domain(domid))


@fake.command("destroy-domain")
@click.argument("domid", type=DOMAIN)
@socket_option
@click.pass_context
def destroy_domain(ctx: click.Context, domid: int, path: str | None) -> None:
    """Destroy a domain, with all its ports.

    The handles of its processes fail with ENODEV.
    """
    RemoteHypervisor(socket_path(ctx, path)).destroy_domain(domid)


def _describe(port: Port) -> str:
    match port.state:
        case State.UNBOUND:
            what = f"Interdomain (Waiting connection) - Remote Domain {port.remote_domid}"
        case State.INTERDOMAIN:
            what = (
                f"Interdomain (Connected) - Remote Domain {port.remote_domid},"
                f" Port {port.remote_port}"
            )
        case State.VIRQ:
            what = f"Virtual IRQ {port.virq} ({virq_name(port.virq or 0)})"
        case State.IPI:
            what = "IPI"
    marks = [
        word
        for word, given in (
            ("kernel", port.kernel),
            ("pending", port.pending),
            ("masked", port.masked),
        )
        if given
    ]
    suffix = f" [{', '.join(marks)}]" if marks else ""
    return f"{port.port:4}: VCPU 0: {what}{suffix}"

"""xenevtchn fake: a hypervisor for many processes on one machine without Xen, and its controls."""

import os
import signal

import click

from ..abi import virq_name
from ..device import DEVICE_VARIABLE
from ..fake import server
from ..fake.hypervisor import State
from ..fake.machine import Port
from ..fake.names import PREFIX, parse
from ..fake.remote import RemoteHypervisor
from .commands import Group
from .ending import end_by
from .options import DOMAIN, VIRQ, F


def socket_option(command: F) -> F:
    """Give a command ``--socket``."""
    return click.option(
        "--socket",
        "path",
        type=click.Path(),
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
    if ready_fd is not None:
        os.fstat(ready_fd)

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

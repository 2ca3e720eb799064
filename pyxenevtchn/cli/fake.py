"""xenevtchn fake: a hypervisor for many processes on one machine without Xen, and its controls."""

import contextlib
import fcntl
import os
import signal
import tempfile
from collections import Counter
from collections.abc import Iterator

import click

from ..abi import virq_name
from ..fake import preload, server
from ..fake.hypervisor import State
from ..fake.machine import Port
from ..fake.names import PREFIX, parse
from ..fake.remote import RemoteHypervisor
from ..opening import DEFAULT_DEVICE, DEVICE_VARIABLE
from . import program
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
    named = ctx.obj, os.environ.get(DEVICE_VARIABLE), os.environ.get(preload.VARIABLE)
    found = _parse(next(filter(None, named), ""))[0]
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


def _parse(device: str) -> tuple[str | None, int]:
    return parse(device) if device.startswith(PREFIX) else (None, 0)


@click.group(cls=Group)
def fake() -> None:
    """Play Xen for several processes: a hypervisor behind a socket.

    Any process opens a handle in a domain of it by the device name fake:unix:PATH?domid=N; and any
    program by /dev/xen/evtchn, where `xenevtchn fake run` runs it.
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


@fake.command(context_settings={"allow_interspersed_args": False})
@socket_option
@click.option("--domid", type=DOMAIN, metavar="DOMID", help="The program's domain [default: dom0].")
@click.option("--check", is_flag=True, help="Fail where the program leaves handles open.")
@click.argument("command", metavar="PROGRAM [ARGUMENT]...", nargs=-1, required=True)
@click.pass_context
def run(
    ctx: click.Context, path: str | None, domid: int | None, check: bool, command: tuple[str, ...]
) -> None:
    """Run any program with a /dev/xen/evtchn that is a fake.

    It is one of a server, or of a new hypervisor that ends with the program. Then the handles that
    were left open are named on standard error: those of processes that ended without closing them,
    or go on. The program has to be linked dynamically. The processes that it starts see the fake
    too, signals go to the program, and its exit status is this command's.

    In what is run, the other `xenevtchn fake` commands need no --socket.
    """
    place, domain = _parse(ctx.obj or os.environ.get(DEVICE_VARIABLE) or "")
    if path is None:
        path, domid = place, domain if domid is None else domid
    executable = program.find(command[0])
    program.check(executable)
    base = dict(os.environ)
    device = base.pop(DEVICE_VARIABLE, None) or DEFAULT_DEVICE
    if place is None and device != DEFAULT_DEVICE:
        raise click.ClickException(
            f"{DEVICE_VARIABLE} is {device!r}, and Python programs would use that: unset it, for"
            f" here {DEFAULT_DEVICE} is the fake"
        )
    if path is not None:
        if check:
            raise click.UsageError("--check is for a hypervisor of the program's own", ctx)
        RemoteHypervisor(path).ports(0)
        mask = program.keep_signals()
        environment = preload.environment(base, path, domid or 0)
        status = program.wait(program.start(executable, command, environment, mask))
        RemoteHypervisor(path).ports(0)
        ctx.exit(status)
    mask = program.keep_signals()
    with _folder() as folder:
        path = f"{folder}/socket"
        environment = preload.environment(base, path, domid or 0)
        with server.serving(path) as own:
            process = program.start(executable, command, environment, mask)
            server.allow_many_descriptors()
            status = program.wait(process)
    for line, times in Counter(own.left).items():
        click.echo(f"left open in {line}{f', {times} times' if times > 1 else ''}", err=True)
    ctx.exit(status or int(check and bool(own.left)))


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


@contextlib.contextmanager
def _folder() -> Iterator[str]:
    try:
        folder = tempfile.TemporaryDirectory(prefix="xenevtchn-")
    except OSError as error:
        error.add_note("the server's socket goes there: set TMPDIR to a folder that can be written")
        raise
    with folder as name:
        yield name


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

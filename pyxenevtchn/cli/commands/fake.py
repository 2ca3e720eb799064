"""xenevtchn fake: a fake hypervisor for several processes, and its controls."""

import contextlib
import fcntl
import os
import signal
import tempfile
from collections import Counter
from collections.abc import Iterator

import click

from ...abi import DEFAULT_DEVICE
from ...fake import preload
from ...fake.hypervisor import Hypervisor
from ...fake.names import PREFIX
from ...fake.server import server
from ...fake.server.remote import RemoteHypervisor
from ...opening import DEVICE_VARIABLE
from ..ending import end_by
from ..options import DOMAIN, examples, named_device
from ..root import Group
from . import program
from .fake_controls import CONTROLS
from .fake_options import hypervisor_options, parse_device, socket_option, socket_path


def _check_writable(ctx: click.Context, param: click.Parameter, fd: int | None) -> int | None:
    if fd is None:
        return None
    try:
        mode = fcntl.fcntl(fd, fcntl.F_GETFL) & os.O_ACCMODE
    except OSError:
        mode = os.O_RDONLY
    if mode == os.O_RDONLY:
        raise click.BadParameter(f"descriptor {fd} is not open for writing", ctx, param)
    return fd


@click.group(
    cls=Group,
    epilog=examples("fake serve --socket xen.sock", "fake run -- ./backend"),
)
def fake() -> None:
    """Serve a fake Xen to several processes, through a socket.

    A process opens a handle in one of its domains by the device name fake:unix:PATH?domid=N. Any
    program that `xenevtchn fake run` runs does so by /dev/xen/evtchn.
    """


for _control in CONTROLS:
    fake.add_command(_control)


@fake.command(
    epilog=examples(
        "fake serve --socket xen.sock",
        "fake serve --socket xen.sock --xen 4.20 --linux 6.12 --delivery manual",
    )
)
@socket_option
@hypervisor_options
@click.option(
    "--ready-fd",
    type=click.IntRange(min=0),
    callback=_check_writable,
    metavar="FD",
    help="Write a newline to this descriptor and close it when clients can connect.",
)
@click.pass_context
def serve(
    ctx: click.Context, path: str | None, ready_fd: int | None, hypervisor: Hypervisor
) -> None:
    """Serve a new hypervisor with a dom0.

    It runs until Ctrl-C or SIGTERM. It writes one line to standard output when clients can connect.
    Only the same user and root can connect. A client's ports are closed when its process ends; when
    the server ends, its clients' handles fail with ECONNRESET.
    """
    path = socket_path(ctx, path)

    def ready() -> None:
        seed = hypervisor.configuration.seed
        if seed is not None:
            click.echo(f"seed {seed}", err=True)
        click.echo(f"serving {PREFIX}unix:{path}")
        if ready_fd is not None:
            os.write(ready_fd, b"\n")
            os.close(ready_fd)

    for number in (signal.SIGTERM, signal.SIGHUP):
        end_by(number)
    server.serve(path, hypervisor, ready, _say_bug)


@fake.command(
    context_settings={"allow_interspersed_args": False},
    epilog=examples("fake run -- ./backend --verbose", "fake run --check -- python3 -m pytest"),
)
@socket_option
@click.option("--domid", type=DOMAIN, metavar="DOMID", help="The program's domain [default: dom0].")
@click.option(
    "--check",
    is_flag=True,
    help="Fail if the program leaves handles open, or would crash a real kernel.",
)
@click.argument("command", metavar="PROGRAM [ARGUMENT]...", nargs=-1, required=True)
@click.pass_context
def run(
    ctx: click.Context, path: str | None, domid: int | None, check: bool, command: tuple[str, ...]
) -> None:
    """Run a program with a fake /dev/xen/evtchn.

    The fake belongs to a server, or else to a new hypervisor that ends with the program. A new
    hypervisor reports handles that are left open on standard error: those of processes that ended
    without closing them, or that still run. The program must be dynamically linked. The processes
    that it starts see the fake too. Signals are passed to the program, and its exit status becomes
    that of this command.

    In the program, the other `xenevtchn fake` commands do not need --socket.
    """
    place, domain = parse_device(named_device(ctx))
    if path is None:
        path, domid = place, domain if domid is None else domid
    executable = program.find(command[0])
    program.check(executable)
    base = dict(os.environ)
    device = base.pop(DEVICE_VARIABLE, None) or DEFAULT_DEVICE
    if place is None and device != DEFAULT_DEVICE:
        raise click.ClickException(
            f"{DEVICE_VARIABLE} is {device!r}, and Python programs would use that: unset it. Here"
            f" {DEFAULT_DEVICE} is the fake"
        )
    if path is not None:
        if check:
            raise click.UsageError("--check needs a new hypervisor, not that of a server", ctx)
        RemoteHypervisor(path).ports(0)
        mask = program.block_signals()
        environment = preload.environment(base, path, domid or 0)
        status = program.wait(program.start(executable, command, environment, mask))
        RemoteHypervisor(path).ports(0)
        ctx.exit(status)
    mask = program.block_signals()
    bugs: list[str] = []

    def say_bug(text: str) -> None:
        bugs.append(text)
        _say_bug(text)

    with _folder() as folder:
        path = f"{folder}/socket"
        environment = preload.environment(base, path, domid or 0)
        with server.serving(path, say_bug) as own:
            process = program.start(executable, command, environment, mask)
            server.allow_many_descriptors()
            status = program.wait(process)
    for line, times in Counter(own.left).items():
        click.echo(f"left open in {line}{f', {times} times' if times > 1 else ''}", err=True)
    ctx.exit(status or int(check and bool(own.left or bugs)))


def _say_bug(text: str) -> None:
    click.echo(f"kernel bug: {text}", err=True)


@contextlib.contextmanager
def _folder() -> Iterator[str]:
    try:
        folder = tempfile.TemporaryDirectory(prefix="xenevtchn-")
    except OSError as error:
        error.add_note("the server's socket is created there: set TMPDIR to a writable folder")
        raise
    with folder as name:
        yield name

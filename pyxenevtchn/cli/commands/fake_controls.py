"""The commands of `xenevtchn fake` that control a fake hypervisor that is served."""

import errno

import click

from ...abi import UINT32_MAX
from ...fake.domain import OPERATIONS
from ...fake.hypervisor import GUEST_PORTS
from ...fake.server.remote import RemoteHypervisor
from ..options import ADDRESS, DOMAIN, VIRQ, examples
from .fake_options import on_server, socket_option, socket_path


@click.command(
    "raise-virq", epilog=examples("fake raise-virq DOM_EXC", "fake raise-virq ARGO --domain 1")
)
@click.argument("virq", type=VIRQ)
@click.option(
    "--domain",
    "domid",
    type=DOMAIN,
    metavar="DOMID",
    help="Its domain [default: dom0, or for a global VIRQ the domain that handles it].",
)
@on_server
def raise_virq(server: RemoteHypervisor, virq: int, domid: int | None) -> None:
    """Raise a VIRQ, as Xen does.

    VIRQ is a name or a number. If it is not bound, nothing happens.
    """
    server.raise_virq(virq, domid)


@click.command("set-virq-handler", epilog=examples("fake set-virq-handler DOM_EXC 1"))
@click.argument("virq", type=VIRQ)
@click.argument("domid", type=DOMAIN)
@on_server
def set_virq_handler(server: RemoteHypervisor, virq: int, domid: int) -> None:
    """Make a domain the handler of a global VIRQ.

    VIRQ is a name or a number.
    """
    server.set_virq_handler(virq, domid)


@click.command(epilog=examples("fake deliver", "fake deliver 1 --most 2"))
@click.argument("domid", type=DOMAIN, required=False)
@click.option("-n", "--most", type=click.IntRange(0), metavar="N", help="Deliver at most N events.")
@click.option(
    "--storm",
    is_flag=True,
    help="As in a flood: ports that are unmasked meanwhile stay masked until the next delivery.",
)
@on_server
def deliver(server: RemoteHypervisor, domid: int | None, most: int | None, *, storm: bool) -> None:
    """Deliver the waiting events, and print how many were for handles.

    Events wait if the server has --delivery manual. Without DOMID, those of all domains are
    delivered.
    """
    click.echo(server.deliver(domid, most, storm=storm))


@click.command(
    "create-domain", epilog=examples("fake create-domain", "fake create-domain 5 --max-ports 100")
)
@click.argument("domid", type=DOMAIN, required=False)
@click.option(
    "--max-ports",
    type=click.IntRange(0, UINT32_MAX),
    default=GUEST_PORTS,
    show_default=True,
    metavar="N",
    help="The highest port that it can have, max_event_channels in xl.",
)
@on_server
def create_domain(server: RemoteHypervisor, domid: int | None, max_ports: int) -> None:
    """Create a domain and print its domid.

    It is DOMID, or the next one that has never been used.
    """
    click.echo(server.create_domain(domid, max_ports))


@click.command("connect-static", epilog=examples("fake connect-static 0:10 1:10"))
@click.argument("one", type=ADDRESS)
@click.argument("other", type=ADDRESS)
@on_server
def connect_static(server: RemoteHypervisor, one: tuple[int, int], other: tuple[int, int]) -> None:
    """Connect two static ports, for BIND_STATIC.

    ONE and OTHER are each a domain and a free port of it, DOM:PORT.
    """
    server.connect_static(*one, *other)


@click.command("destroy-domain", epilog=examples("fake destroy-domain 1"))
@click.argument("domid", type=DOMAIN)
@on_server
def destroy_domain(server: RemoteHypervisor, domid: int) -> None:
    """Destroy a domain, with all its ports.

    The handles of its processes fail with ENODEV.
    """
    server.destroy_domain(domid)


@click.command("pause-domain", epilog=examples("fake pause-domain 1"))
@click.argument("domid", type=DOMAIN)
@on_server
def pause_domain(server: RemoteHypervisor, domid: int) -> None:
    """Stop a domain's vCPUs: events that are sent to it wait."""
    server.pause_domain(domid)


@click.command("unpause-domain", epilog=examples("fake unpause-domain 1"))
@click.argument("domid", type=DOMAIN)
@on_server
def unpause_domain(server: RemoteHypervisor, domid: int) -> None:
    """Let a domain's vCPUs run again."""
    server.unpause_domain(domid)


@click.command("checkpoint-domain", epilog=examples("fake checkpoint-domain 1"))
@click.argument("domid", type=DOMAIN)
@on_server
def checkpoint_domain(server: RemoteHypervisor, domid: int) -> None:
    """Save a domain and let it continue: everything survives."""
    server.checkpoint_domain(domid)


@click.command("save-domain", epilog=examples("fake save-domain 1"))
@click.argument("domid", type=DOMAIN)
@on_server
def save_domain(server: RemoteHypervisor, domid: int) -> None:
    """Save a domain: it does not exist until it is restored."""
    server.save_domain(domid)


@click.command("restore-domain", epilog=examples("fake restore-domain 1"))
@click.argument("domid", type=DOMAIN)
@on_server
def restore_domain(server: RemoteHypervisor, domid: int) -> None:
    """Restore the domain that was saved as DOMID, and print its new domid.

    Its handles have lost their ports and do not know it: a real kernel crashes when they are
    closed. The server reports that on standard error.
    """
    click.echo(server.restore_domain(domid))


@click.command("shutdown-domain", epilog=examples("fake shutdown-domain 1"))
@click.argument("domid", type=DOMAIN)
@on_server
def shutdown_domain(server: RemoteHypervisor, domid: int) -> None:
    """Make a domain shut itself down."""
    server.shutdown_domain(domid)


@click.command("crash-domain", epilog=examples("fake crash-domain 1 --preserve"))
@click.argument("domid", type=DOMAIN)
@click.option("--preserve", is_flag=True, help="Preserve the domain, with its ports.")
@on_server
def crash_domain(server: RemoteHypervisor, domid: int, *, preserve: bool) -> None:
    """Make a domain's kernel crash."""
    server.crash_domain(domid, preserve=preserve)


@click.command(
    "fail-next",
    epilog=examples("fake fail-next bind_virq ENOSPC", "fake fail-next read EAGAIN --domain 1"),
)
@click.argument("operation", type=click.Choice(list(map(str, OPERATIONS))), metavar="OPERATION")
@click.argument("error", metavar="ERRNO")
@click.option(
    "--domain", "domid", type=DOMAIN, default=0, show_default=True, metavar="DOMID", help="Where."
)
@socket_option
@click.pass_context
def fail_next(ctx: click.Context, operation: str, error: str, domid: int, path: str | None) -> None:
    """Make the next OPERATION of a handle fail with ERRNO.

    OPERATION is a request of the driver, read or write. ERRNO is a name, such as ENOSPC, or a
    number.
    """
    number = getattr(errno, error, None) or (int(error) if error.isdecimal() else 0)
    if not number:
        raise click.BadParameter(f"{error!r} is not an errno", ctx, param_hint="ERRNO")
    RemoteHypervisor(socket_path(ctx, path)).fail_next(domid, operation, number)


@click.command("check-clean", epilog=examples("fake check-clean"))
@on_server
def check_clean(server: RemoteHypervisor) -> None:
    """Check that no handle is open and no port is bound.

    If one is, list what is left and fail.
    """
    try:
        server.check_clean()
    except AssertionError as error:
        raise click.ClickException(str(error)) from None


CONTROLS = (
    raise_virq,
    set_virq_handler,
    deliver,
    create_domain,
    connect_static,
    destroy_domain,
    pause_domain,
    unpause_domain,
    checkpoint_domain,
    save_domain,
    restore_domain,
    shutdown_domain,
    crash_domain,
    fail_next,
    check_clean,
)
"""The commands."""

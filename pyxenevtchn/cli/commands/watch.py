"""xenevtchn watch: the events of any mix of sources, for people and for scripts."""

import click

from ...channel import EventChannel
from ..events import formats
from ..events.display import Display, Lines, Rates, announce
from ..events.hook import Hook
from ..events.monitor import Limits, finish, monitor
from ..events.sources import Sources
from ..options import (
    ADDRESS,
    DOMID,
    SECONDS,
    STATIC_PORT,
    VIRQ,
    check_consent,
    consent_option,
    count_option,
    device_option,
    examples,
    timeout_option,
)


@click.command(
    epilog=examples(
        "watch --virq DOM_EXC --banner",
        "watch --interdomain 3:17 --unbound 4 --json",
        'watch --virq CON_RING --count 1 --exec "xl dmesg -c"',
    )
)
@click.option(
    "--virq", "virqs", type=VIRQ, multiple=True, metavar="NAME", help="A VIRQ, by name or number."
)
@click.option(
    "--interdomain",
    "addresses",
    type=ADDRESS,
    multiple=True,
    metavar="DOM:PORT",
    help="An unbound port of another domain, to connect to.",
)
@click.option(
    "--unbound",
    "domains",
    type=DOMID,
    multiple=True,
    metavar="DOM",
    help="A new port that DOM may connect to.",
)
@click.option(
    "--static",
    "static_ports",
    type=STATIC_PORT,
    multiple=True,
    metavar="PORT",
    help="A port that Xen set up at boot.",
)
@consent_option
@click.option("--banner", is_flag=True, help="First write the port of each source.")
@click.option("--json", "as_json", is_flag=True, help="Write a JSON object on each line.")
@click.option("--format", "template", metavar="FORMAT", help="Write events in this format.")
@click.option("--localtime", "clock", flag_value=formats.LOCALTIME, help="Local time, the default.")
@click.option("--utc", "clock", flag_value=formats.UTC, help="UTC.")
@click.option(
    "--monotonic",
    "clock",
    flag_value=formats.MONOTONIC,
    help="Seconds of the monotonic clock, since boot.",
)
@click.option("--rate", is_flag=True, help="Write a summary of each second instead of the events.")
@click.option(
    "--exec", "command", metavar="COMMAND", help="Run a shell command for each event, and wait."
)
@click.option(
    "--restrict",
    type=DOMID,
    metavar="DOMID",
    help="Once all is bound, limit the handle to this domain.",
)
@count_option
@timeout_option
@click.option(
    "--idle-timeout", type=SECONDS, metavar="SECONDS", help="End after this time without an event."
)
@device_option
@click.pass_context
def watch(  # noqa: PLR0913 - click hands in each option
    ctx: click.Context,
    *,
    virqs: tuple[int, ...],
    addresses: tuple[tuple[int, int], ...],
    domains: tuple[int, ...],
    static_ports: tuple[int, ...],
    consent: bool,
    banner: bool,
    as_json: bool,
    template: str | None,
    clock: str | None,
    rate: bool,
    command: str | None,
    restrict: int | None,
    count: int | None,
    timeout: float | None,
    idle_timeout: float | None,
    device: str,
) -> None:
    """Show the events of any mix of sources, which share one handle.

    Name at least one of --virq, --interdomain, --unbound and --static, each as often as needed.
    Without a limit it runs until Ctrl-C.

    Each event is a line with its time, its port and its source: virq:NAME, interdomain:DOM:PORT,
    unbound:DOM or static:PORT. The time is when it was read. All notifications of a port since its
    last line are one event. A port of --interdomain starts with one event that nobody sent. Errors
    that do not end the watch are reported on standard error.

    All sources are bound before the first line of --banner.

    --format takes {time}, {port} and {source}, with Python's alignment and padding: {port:>5}.

    The command of --exec gets the port in $XENEVTCHN_PORT and the source in $XENEVTCHN_SOURCE; the
    port is masked until the command ends. A failure is reported on standard error, and the watch
    continues.

    The objects of --json; times are strings in ISO 8601, or with --monotonic numbers of seconds:

    \b
    {"type": "bound", "port": 25, "source": "virq:CON_RING"}
    {"type": "event", "time": "...", "port": 25, "source": "virq:CON_RING"}
    {"type": "rate", "time": "...", "port": 25, "source": "virq:CON_RING",
     "events": 118, "seconds": 1.000042}

    The first kind comes with --banner, the last with --rate instead of the second; each is one
    line.
    """  # noqa: D301 - click's mark of a paragraph not to wrap
    sources = Sources(virqs, addresses, domains, static_ports)
    if sources == Sources((), (), (), ()):
        raise click.UsageError("name a source: --virq, --interdomain, --unbound or --static", ctx)
    if static_ports:
        check_consent(ctx, device, consent=consent)
    now = formats.clock(clock or formats.LOCALTIME)
    form = _format(ctx, as_json=as_json, rate=rate, template=template, time=now())
    limits = Limits(count, timeout, idle_timeout)
    with EventChannel.open(device) as channel:
        names = sources.bind(channel)
        if restrict is not None:
            channel.restrict_domid(restrict)
        if banner:
            announce(names, form)
        display: Display = Rates(names, form, now) if rate else Lines(names, form)
        hook = None if command is None else Hook(command, names)
        timed_out = monitor(channel, display, limits, now, hook)
    finish(ctx, limits, timed_out=timed_out)


def _format(
    ctx: click.Context, *, as_json: bool, rate: bool, template: str | None, time: formats.Time
) -> formats.Format:
    if template is None:
        return formats.JSON if as_json else formats.TEXT
    if as_json or rate:
        raise click.UsageError("--format cannot be used with --json or --rate", ctx)
    try:
        return formats.custom(template, time)
    except ValueError as error:
        raise click.BadParameter(str(error), ctx, param_hint="--format") from error

"""xenevtchn selftest: whether the device does what it must."""

from collections.abc import Callable

import click

from ...channel import EventChannel
from ..options import device_option, examples
from ..output import bad, good, reason, say
from .checks import CHECKS, CheckFailed


@click.command(epilog=examples("selftest", "--device fake: selftest"))
@device_option
@click.pass_context
def selftest(ctx: click.Context, device: str) -> None:
    """Check that the device does what it must.

    A line for each check says ok or why it failed. This is safe on a production dom0: it opens its
    own handles, connects their ports with each other, and uses no other ports. The exit status is 1
    if a check failed.
    """
    EventChannel.open(device).close()  # one message if nothing can work
    failed = 0
    for check in CHECKS:
        reason = _failure(check, device)
        name = (check.__doc__ or check.__name__).rstrip(".")
        if reason is None:
            say(f"{good('ok')}      {name}")
        else:
            failed += 1
            say(f"{bad('FAILED')}  {name}: {reason}")
    say(f"{len(CHECKS) - failed} ok, {failed} failed")
    if failed:
        ctx.exit(1)


def _failure(check: Callable[[str], None], device: str) -> str | None:
    try:
        check(device)
    except CheckFailed as error:
        return str(error)
    except (OSError, ValueError) as error:
        return reason(error)
    return None

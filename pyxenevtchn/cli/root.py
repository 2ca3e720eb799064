"""The main command: the names of its commands, and how their errors are shown."""

import errno
import importlib
import os
import sys

import click

from ..abi import DEFAULT_DEVICE
from ..errors import ChannelClosed
from ..opening import DEVICE_VARIABLE
from .output import reason

# Each is in the module of its name in the folder commands, which is loaded when it is used.
COMMANDS = (
    "bind-virq",
    "doctor",
    "fake",
    "notify",
    "ping",
    "pong",
    "ports",
    "selftest",
    "top",
    "virqs",
    "watch",
)

EPILOG = f"""\
The device is --device DEVICE, or the value of ${DEVICE_VARIABLE}, or {DEFAULT_DEVICE}. The name
fake: means a fake in this process, which needs no Xen; fake:unix:PATH means the fake that
`xenevtchn fake serve` serves.

A domid is a number, or `self` for the domain that this runs in.

Exit status: 0 success, 1 an error, 2 wrong usage, 3 timed out before --count, 130 Ctrl-C.

Completion, in the shell's start-up file:

\b
bash: eval "$(_XENEVTCHN_COMPLETE=bash_source xenevtchn)"
zsh:  eval "$(_XENEVTCHN_COMPLETE=zsh_source xenevtchn)"
fish: _XENEVTCHN_COMPLETE=fish_source xenevtchn | source
"""


class Group(click.Group):
    """A group of commands; without a command, it shows its help and exits with status 2."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Parse the arguments."""
        # click before 8.2 does this too, but on standard output and with status 0.
        if not args and not ctx.resilient_parsing:
            click.echo(ctx.get_help(), err=True)
            ctx.exit(2)
        return super().parse_args(ctx, args)


class Commands(Group):
    """The commands; an error is shown as one line and a hint, never as a traceback."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - click's signature
        """Return the names of the commands."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002
        """Load and return a command."""
        if cmd_name not in COMMANDS:
            return None
        name = cmd_name.replace("-", "_")
        module = importlib.import_module(f".commands.{name}", __package__)
        command: click.Command = getattr(module, name)
        return command

    def invoke(self, ctx: click.Context) -> object:
        """Run the command; turn errors that a user can cause into a message and an exit status."""
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt:
            ctx.exit(130)  # without click's "Aborted!"
        except OSError as error:
            if error.errno == errno.EPIPE:
                raise  # ends quietly
            raise click.ClickException(_message(error)) from error
        except (ChannelClosed, ValueError) as error:
            raise click.ClickException(_message(error)) from error
        except Exception as error:
            # Only a fake that is loaded can raise KernelBug.
            failure = sys.modules.get("pyxenevtchn.fake.model.failure")
            if failure and isinstance(error, failure.KernelBug):
                raise click.ClickException(f"kernel bug: {error}") from error
            raise


def _message(error: Exception) -> str:
    file = error.filename if isinstance(error, OSError) else None
    text = f"{file}: {reason(error)}" if file else reason(error)
    return "\n".join([text, *(f"Hint: {note}" for note in getattr(error, "__notes__", ()))])


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"]}, epilog=EPILOG)
@click.version_option(package_name="pyxenevtchn", prog_name="xenevtchn")
@click.option(
    "--device",
    metavar="DEVICE",
    help=f"The device to use [default: ${DEVICE_VARIABLE}, or {DEFAULT_DEVICE}].",
)
@click.pass_context
def xenevtchn(ctx: click.Context, device: str | None) -> None:
    """Inspect and use Xen event channels through /dev/xen/evtchn."""
    ctx.obj = device
    if os.environ.get("NO_COLOR"):
        ctx.color = False  # otherwise click colours terminals only

"""The xenevtchn command: a module for each group of commands, and the one place that prints."""

import errno
import importlib.metadata

import click

from ..device import DEFAULT_DEVICE, DEVICE_VARIABLE
from ..errors import ChannelClosed
from .ping import ping


class Commands(click.Group):
    """A group whose commands' errors come out as one line and a hint, never as a traceback."""

    def invoke(self, ctx: click.Context) -> object:
        """Run the command; turn what a user can cause into a message and an exit status."""
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt:
            ctx.exit(130)
        except OSError as error:
            if error.errno == errno.EPIPE:
                raise  # click ends quietly
            raise click.ClickException(_message(error)) from error
        except (ChannelClosed, ValueError) as error:
            raise click.ClickException(_message(error)) from error


def _message(error: Exception) -> str:
    text = str(error)
    if isinstance(error, OSError) and error.strerror:
        text = f"{error.filename}: {error.strerror}" if error.filename else error.strerror
    return "\n".join([text, *(f"Hint: {note}" for note in getattr(error, "__notes__", ()))])


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(importlib.metadata.version("pyxenevtchn"), prog_name="xenevtchn")
@click.option(
    "--device",
    metavar="DEVICE",
    help=f"The device to use [default: ${DEVICE_VARIABLE}, or {DEFAULT_DEVICE}].",
)
@click.pass_context
def main(ctx: click.Context, device: str | None) -> None:
    """Look at and drive Xen event channels through /dev/xen/evtchn."""
    ctx.obj = device


main.add_command(ping)

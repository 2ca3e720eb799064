"""The xenevtchn command: a module for each group of commands, and the one place that prints.

This is its frame, which loads nothing before it can deal with Ctrl-C, and with standard streams
that are closed, full or gone.
"""

import contextlib
import os
import signal
import sys
from typing import NoReturn, TextIO

from .ending import end_by, ended


def main() -> NoReturn:
    """Run the command that the arguments name, and exit with its status."""
    _open_closed_streams()
    # Names that are no UTF-8 come out as they came in.
    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(errors="surrogateescape")  # type: ignore[union-attr]
    status: object = 1
    try:
        end_by(signal.SIGINT)
        from .commands import xenevtchn  # noqa: PLC0415 - click takes long enough for a Ctrl-C

        xenevtchn()
    except SystemExit as end:
        status = end.code
    except KeyboardInterrupt:
        status = 130
    except OSError as error:
        # Not of a command, whose errors are messages by now, but of what click itself wrote.
        with contextlib.suppress(OSError):
            sys.stderr.write(f"Error: {error.strerror}\n")
    ended()
    for stream in (sys.stdout, sys.stderr):
        _drop_what_cannot_be_written(stream)
    raise SystemExit(status)


def _open_closed_streams() -> None:
    """Have /dev/null where a standard stream is closed, before a device gets its number."""
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, mode))  # noqa: PTH123, SIM115 - for good


def _drop_what_cannot_be_written(stream: TextIO) -> None:
    """Keep Python from trying once more, at its end, with a noise and a status of its own."""
    try:
        stream.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())

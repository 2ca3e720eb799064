"""The xenevtchn command: a module for each group of commands, and the one place that prints.

This module starts it. From then on Ctrl-C ends the command quietly, and standard streams may be
closed, full or gone. Before that, while Python starts and loads the package, Ctrl-C prints Python's
traceback.
"""

import codecs
import contextlib
import os
import signal
import sys
from typing import NoReturn, TextIO

from .ending import end_by, restore_defaults


def main() -> NoReturn:
    """Run the command that the arguments name, and exit with its status."""
    _open_closed_streams()
    codecs.register_error(__name__, _encode_or_escape)
    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(errors=__name__)  # type: ignore[union-attr]
    status: object = 1
    try:
        end_by(signal.SIGINT)
        from .root import xenevtchn  # noqa: PLC0415 - click takes long enough for a Ctrl-C

        xenevtchn()
    except SystemExit as end:
        status = end.code
    except KeyboardInterrupt:
        status = 130
    except OSError as error:
        # From click's own output; errors of commands are already messages here.
        with contextlib.suppress(OSError):
            sys.stderr.write(f"Error: {error.strerror}\n")
    restore_defaults()
    for stream in (sys.stdout, sys.stderr):
        _flush_or_discard(stream)
    raise SystemExit(status)


def _open_closed_streams() -> None:
    """Open /dev/null for each closed standard stream, before a device gets its number."""
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, mode))  # noqa: PTH123, SIM115 - it stays open


def _encode_or_escape(error: UnicodeError) -> tuple[str | bytes, int]:
    """Keep bytes of names that are not text, and escape characters that the locale cannot write."""
    if not isinstance(error, UnicodeEncodeError):
        raise error
    error.end = error.start + 1
    try:
        return codecs.lookup_error("surrogateescape")(error)
    except UnicodeEncodeError:
        return codecs.backslashreplace_errors(error)


def _flush_or_discard(stream: TextIO) -> None:
    """Flush a stream; if that fails, discard the data, or Python reports it again at its end."""
    try:
        stream.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())

"""The xenevtchn command: a module for each group of commands, and the one place that prints.

This is its frame. From its start on Ctrl-C ends the command quietly, and standard streams may be
closed, full or gone. Until then, while Python starts and loads the package that this is in, Ctrl-C
is Python's own: a traceback.
"""

import codecs
import contextlib
import os
import signal
import sys
from typing import NoReturn, TextIO

from .ending import end_by, ended


def main() -> NoReturn:
    """Run the command that the arguments name, and exit with its status."""
    _open_closed_streams()
    codecs.register_error(__name__, _encode_somehow)
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


def _encode_somehow(error: UnicodeError) -> tuple[str | bytes, int]:
    """Write bytes of a name that were no text as they came in, and escape what the locale lacks."""
    if not isinstance(error, UnicodeEncodeError):
        raise error
    error.end = error.start + 1
    try:
        return codecs.lookup_error("surrogateescape")(error)
    except UnicodeEncodeError:
        return codecs.backslashreplace_errors(error)


def _drop_what_cannot_be_written(stream: TextIO) -> None:
    """Keep Python from trying once more, at its end, with a noise and a status of its own."""
    try:
        stream.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())

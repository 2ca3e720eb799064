"""How the commands write: results to standard output, flushed; all else to standard error."""

import sys
from collections.abc import Sequence

import click


def say(line: str) -> None:
    """Write a line of results and flush it: a reader may be waiting for it."""
    click.echo(line)


def say_table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Write a table whose columns are as wide as their cells."""
    widths = [max(map(len, column)) for column in zip(head, *rows, strict=True)]
    for row in (head, *rows):
        cells = (cell.ljust(width) for cell, width in zip(row, widths, strict=True))
        line = "  ".join(cells).rstrip()
        say(bold(line) if row is head else line)


def emit(line: str) -> None:
    """Write a line as ``say`` does, fast enough for thousands a second: plain text only."""
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


def warn(message: str) -> None:
    """Write a warning about something that does not end the command."""
    click.echo(f"Warning: {message}", err=True)


def bold(text: str) -> str:
    """Return text that is bold on a terminal."""
    return click.style(text, bold=True)


def good(text: str) -> str:
    """Return text that is green on a terminal."""
    return click.style(text, fg="green")


def bad(text: str) -> str:
    """Return text that is red and bold on a terminal."""
    return click.style(text, fg="red", bold=True)


def confirm(question: str) -> None:
    """Ask on the terminal, and end the command unless the answer is yes.

    Raises:
        click.Abort: it is not, or standard input is at its end.
    """
    # Not with click, whose older versions write part of the question to standard output.
    click.echo(f"{question} [y/N]: ", nl=False, err=True)
    if sys.stdin.readline().strip().lower() not in {"y", "yes"}:
        raise click.Abort


def reason(error: Exception) -> str:
    """Return the text of an error, without the name of its file."""
    text = error.strerror if isinstance(error, OSError) else None
    return text or str(error)


def printable(text: str) -> str:
    """Escape text of other programs, so that it cannot control the terminal."""
    return "".join(
        character if character.isprintable() else ascii(character)[1:-1] for character in text
    )

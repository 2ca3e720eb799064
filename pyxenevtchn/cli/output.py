"""How the commands write: results on standard output at once, everything else on the other."""

import sys
from collections.abc import Sequence

import click


def say(line: str) -> None:
    """Write a line of results, flushed: whoever reads it may be waiting for it."""
    click.echo(line)


def say_table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Write a table, as wide as its cells."""
    widths = [max(map(len, column)) for column in zip(head, *rows, strict=True)]
    for row in (head, *rows):
        cells = (cell.ljust(width) for cell, width in zip(row, widths, strict=True))
        line = "  ".join(cells).rstrip()
        say(bold(line) if row is head else line)


def emit(line: str) -> None:
    """Write an event's line as ``say`` does, for thousands a second: plain text alone."""
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


def warn(message: str) -> None:
    """Tell the user of something that does not end the command."""
    click.echo(f"Warning: {message}", err=True)


def bold(text: str) -> str:
    """Make text stand out on a terminal."""
    return click.style(text, bold=True)


def good(text: str) -> str:
    """Colour what is well, on a terminal."""
    return click.style(text, fg="green")


def bad(text: str) -> str:
    """Colour what is wrong, on a terminal."""
    return click.style(text, fg="red", bold=True)


def confirm(question: str) -> None:
    """Ask on the terminal, and end the command unless the answer is yes.

    Raises:
        click.Abort: it is not, or nobody is there to answer.
    """
    # Not by click, whose older versions write a part of the question to standard output.
    click.echo(f"{question} [y/N]: ", nl=False, err=True)
    if sys.stdin.readline().strip().lower() not in {"y", "yes"}:
        raise click.Abort


def printable(text: str) -> str:
    """Write text of other programs so that it cannot drive the terminal."""
    return "".join(
        character if character.isprintable() else ascii(character)[1:-1] for character in text
    )

"""The manual page, made from the commands' own help."""

import datetime as dt
import inspect
import os
import textwrap
import time
from collections.abc import Iterator
from importlib.metadata import version

import click

from pyxenevtchn.cli.root import xenevtchn


def page() -> str:
    """Return the manual page, for man(1)."""
    context = click.Context(xenevtchn, info_name="xenevtchn", **xenevtchn.context_settings)
    # Packagers set it, for reproducible builds.
    seconds = float(os.environ.get("SOURCE_DATE_EPOCH", time.time()))
    date = dt.datetime.fromtimestamp(seconds, dt.UTC).date()
    summary = (xenevtchn.help or "").partition("\n")[0].rstrip(".")
    lines = [
        f'.TH XENEVTCHN 1 {date} "pyxenevtchn {version("pyxenevtchn")}" "User Commands"',
        ".SH NAME",
        f"xenevtchn \\- {_escape(summary[0].lower() + summary[1:])}",
        ".SH SYNOPSIS",
        *_synopsis(context),
        ".SH DESCRIPTION",
        *_text(f"{xenevtchn.help}\n\n{xenevtchn.epilog}"),
        ".SH OPTIONS",
        *_options(context),
        ".SH COMMANDS",
    ]
    for name in xenevtchn.list_commands(context):
        lines += _command(xenevtchn, name, context)
    lines += [".SH SEE ALSO", ".BR lsevtchn (1),", ".BR xl (1),", ".BR xentop (1)"]
    return "\n".join(lines) + "\n"


def _command(group: click.Group, name: str, parent: click.Context) -> Iterator[str]:
    command = group.get_command(parent, name)
    if command is None:
        return
    context = click.Context(command, info_name=name, parent=parent)
    yield f".SS {_escape(context.command_path.partition(' ')[2])}"
    yield from _synopsis(context)
    yield ".PP"
    yield from _text(command.help or "")
    yield from _options(context)
    yield ".PP"
    yield from _text(command.epilog or "")
    if isinstance(command, click.Group):
        for subcommand in command.list_commands(context):
            yield from _command(command, subcommand, context)


def _synopsis(context: click.Context) -> Iterator[str]:
    yield f".B {_escape(context.command_path)}"
    pieces = context.command.collect_usage_pieces(context)
    yield _escape(" ".join(piece for piece in pieces if piece))


def _options(context: click.Context) -> Iterator[str]:
    for parameter in context.command.get_params(context):
        record = parameter.get_help_record(context)
        if record is not None and isinstance(parameter, click.Option):
            yield ".TP"
            yield f".B {_escape(record[0])}"
            yield from _paragraph(record[1])


def _text(text: str) -> Iterator[str]:
    """Format click's help; paragraphs that start with a backspace stay as they are."""
    for number, paragraph in enumerate(inspect.cleandoc(text).split("\n\n")):
        if number:
            yield ".PP"
        if paragraph.startswith("\b"):
            yield ".nf"
            yield from map(_escape, paragraph.splitlines()[1:])
            yield ".fi"
        else:
            yield from _paragraph(paragraph)


def _paragraph(text: str) -> Iterator[str]:
    # Room for what escaping adds.
    yield from map(_escape, textwrap.wrap(text, 70, break_long_words=False, break_on_hyphens=False))


def _escape(text: str) -> str:
    """Escape text, so that troff finds no request in it."""
    text = text.replace("\\", "\\e").replace("-", "\\-")
    return f"\\&{text}" if text.startswith((".", "'")) else text

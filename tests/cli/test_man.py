"""tools/man: the manual page, generated from the commands' help."""

import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import click
import pytest

from pyxenevtchn.cli.root import xenevtchn

from ..command import environment
from ..limits import TIMEOUT

SCRIPT = Path(__file__).parents[2] / "tools" / "man"

pytestmark = pytest.mark.backends("fake")


def walk(path: str, group: click.Group) -> list[tuple[str, click.Command]]:
    context = click.Context(group)
    commands: list[tuple[str, click.Command]] = []
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        assert command is not None
        commands.append((f"{path}{name}", command))
        if isinstance(command, click.Group):
            commands += walk(f"{path}{name} ", command)
    return commands


COMMANDS = dict(walk("", xenevtchn))


@pytest.fixture(scope="module")
def page() -> str:
    result = subprocess.run(
        [sys.executable, SCRIPT],
        # The script imports modules beside it: Python allows that unless PYTHONSAFEPATH is set.
        env=environment("", {"SOURCE_DATE_EPOCH": "1700000000", "PYTHONSAFEPATH": ""}),
        capture_output=True,
        text=True,
        timeout=TIMEOUT,
        check=False,
    )
    assert (result.returncode, result.stderr) == (0, "")
    return result.stdout


def test_it_has_every_command_and_option(page: str) -> None:
    assert page.startswith(".TH XENEVTCHN 1 2023-11-14 ")
    sections = page.split("\n.SS ")
    found = {section.partition("\n")[0].replace("\\", ""): section for section in sections[1:]}
    assert list(found) == list(COMMANDS)
    for name, command in COMMANDS.items():
        for parameter in command.params:
            if isinstance(parameter, click.Option):
                assert parameter.opts[0].replace("-", "\\-") in found[name]
        for example in examples(command):
            assert example.replace("-", "\\-") in found[name]


@pytest.mark.parametrize("name", COMMANDS)
def test_each_command_has_an_example_that_it_understands(name: str) -> None:
    command = COMMANDS[name]
    calls = [line.partition(f" {name}") for line in examples(command)]
    assert calls
    for program, found, words in calls:
        assert program.startswith("xenevtchn")
        assert found
        command.make_context(name, shlex.split(words), click.Context(xenevtchn))


def examples(command: click.Command) -> list[str]:
    """Return the calls in the examples that end a command's help."""
    return [line.strip() for line in (command.epilog or "").splitlines() if line.startswith("  ")]


@pytest.mark.parametrize(
    "checker", [["mandoc", "-Tlint"], ["groff", "-ww", "-man", "-Tutf8", "-z"]], ids=lambda c: c[0]
)
def test_programs_that_format_manual_pages_find_no_error(page: str, checker: list[str]) -> None:
    if not shutil.which(checker[0]):
        pytest.skip(f"needs {checker[0]}")
    result = subprocess.run(
        checker, input=page, capture_output=True, text=True, timeout=TIMEOUT, check=False
    )
    assert (result.returncode, result.stdout, result.stderr) == (0, "", "")

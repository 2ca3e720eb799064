"""tools/man: the manual page, generated from the commands' help."""

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
    commands = dict(walk("", xenevtchn))
    assert list(found) == list(commands)
    for name, command in commands.items():
        for parameter in command.params:
            if isinstance(parameter, click.Option):
                assert parameter.opts[0].replace("-", "\\-") in found[name]


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

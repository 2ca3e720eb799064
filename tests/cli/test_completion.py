"""Completion, in each shell."""

import shutil
import subprocess
from pathlib import Path

import pytest

from pyxenevtchn import Virq

from ..command import PATH, environment, on_terminal, shell
from ..limits import TIMEOUT

pytestmark = pytest.mark.backends("fake")

# Completes its arguments, as bash does at a Tab after the last word.
BASH = """
eval "$(_XENEVTCHN_COMPLETE=bash_source xenevtchn)"
COMP_WORDS=(xenevtchn "$@") COMP_CWORD=$#
$(complete -p xenevtchn | sed 's/.*-F \\([^ ]*\\).*/\\1/') xenevtchn
printf '%s\\n' "${COMPREPLY[@]}"
"""


def in_bash(*words: str) -> list[str]:
    result = subprocess.run(
        ["bash", "-c", BASH, "bash", *words],
        env=environment("", {"PATH": PATH}),
        capture_output=True,
        text=True,
        timeout=TIMEOUT,
        check=True,
    )
    assert result.stderr == ""
    return result.stdout.split()


def test_bash_completes_commands_and_options() -> None:
    assert in_bash("bi") == ["bind-virq"]
    assert in_bash("fake", "cre") == ["create-domain"]
    assert in_bash("watch", "--un") == ["--unbound"]


def test_bash_completes_virqs() -> None:
    assert in_bash("watch", "--virq", "CON") == ["CONSOLE", "CON_RING"]
    assert in_bash("bind-virq", "con_") == ["con_ring"]
    assert in_bash("bind-virq", "") == list(Virq.__members__)
    assert in_bash("fake", "raise-virq", "DOM") == ["DOM_EXC"]


def test_bash_completes_domids() -> None:
    for words in (["pong"], ["watch", "--unbound"], ["watch", "--restrict"]):
        assert {"0", "self"} <= set(in_bash(*words, ""))
    assert "self" not in in_bash("fake", "pause-domain", "")
    assert in_bash("ping", "sel") == ["self:"]
    assert in_bash("notify", "se") == ["self:"]
    assert in_bash("watch", "--interdomain", "sel") == ["self:"]


def test_zsh_completes_on_a_terminal(tmp_path: Path) -> None:
    if not shutil.which("zsh"):
        pytest.skip("needs zsh")
    with on_terminal("-f", "-i", program="zsh", more={"HOME": str(tmp_path), "PS1": "> "}) as zsh:
        zsh.type("autoload -U compinit; compinit -u -D; setopt no_beep\n")
        zsh.type('eval "$(_XENEVTCHN_COMPLETE=zsh_source xenevtchn)"; echo rea""dy\n')
        zsh.until("ready")
        zsh.until("> ")
        zsh.type("xenevtchn bind-virq CON_\t")
        zsh.until("CON_RING")


def test_fish_completes() -> None:
    if not shutil.which("fish"):
        pytest.skip("needs fish")
    script = "_XENEVTCHN_COMPLETE=fish_source xenevtchn | source; complete -C '{}'"

    def complete(line: str) -> list[str]:
        result = shell(f'fish --no-config -c "{script.format(line)}"')
        assert (result.returncode, result.stderr) == (0, "")
        return [row.split("\t")[0] for row in result.stdout.splitlines()]

    assert complete("xenevtchn watch --virq CON") == ["CONSOLE", "CON_RING"]
    assert complete("xenevtchn sel") == ["selftest"]
    assert {"0", "self"} <= set(complete("xenevtchn pong "))


@pytest.mark.parametrize("name", ["bash", "zsh", "fish"])
def test_packagers_can_get_the_completion_scripts(name: str) -> None:
    result = shell(f"_XENEVTCHN_COMPLETE={name}_source xenevtchn")
    assert (result.returncode, result.stderr) == (0, "")
    assert "_XENEVTCHN_COMPLETE=" in result.stdout
    if shutil.which(name):
        check = shell(f"_XENEVTCHN_COMPLETE={name}_source xenevtchn | {name} -n")
        assert (check.returncode, check.stderr) == (0, "")

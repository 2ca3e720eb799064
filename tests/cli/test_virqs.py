"""xenevtchn virqs, and its question before a probe."""

import re
from pathlib import Path

import pytest

from pyxenevtchn import EventChannel, Virq

from ..command import on_terminal, run
from ..fake.server.process import ServerProcess, serving
from ..here import Here

# The question comes before the device is opened, so any name will do.
NODE = "/dev/null"
QUESTION = f"Bind and unbind each VIRQ on {NODE}? [y/N]: "

IN_DOM0S_KERNEL = {"TIMER", "CONSOLE", "PCPU_STATE", "ARCH_0"}


def cells(output: str) -> list[list[str]]:
    """Split a table into its cells, which are at least two spaces apart."""
    return [re.split(r" {2,}", line) for line in output.splitlines()]


def states(output: str) -> dict[str, str]:
    """Return each VIRQ's state, from the output of a probe."""
    head, *rows = cells(output)
    assert head == ["NUMBER", "STATE", "NAME", "SCOPE", "USUAL HOLDER", "MEANING"]
    return {row[2]: row[1] for row in rows}


@pytest.mark.backends("fake")
def test_each_virq_is_a_row() -> None:
    head, *rows = cells(run("virqs").stdout)
    assert head == ["NUMBER", "NAME", "SCOPE", "USUAL HOLDER", "MEANING"]
    assert [row[:3] for row in rows] == [[str(int(virq)), virq.name, virq.scope] for virq in Virq]
    assert rows[3][3:] == ["xenstored", "a domain shut down, crashed or died"]


@pytest.mark.backends("server")
@pytest.mark.parametrize(
    ("machine", "held", "arch_0"),
    [
        ("pv", IN_DOM0S_KERNEL, "a machine check, on x86 (MCA)"),
        ("pvh", IN_DOM0S_KERNEL - {"ARCH_0"}, "a machine check, on x86 (MCA)"),
        ("arm64", {"CONSOLE"}, "architecture-specific"),
    ],
)
def test_the_holders_are_those_of_the_machine(
    tmp_path: Path, machine: str, held: set[str], arch_0: str
) -> None:
    with serving(tmp_path / "xen", "--machine", machine) as server:
        _, *rows = cells(run("virqs", device=server.name()).stdout)
        assert {row[1] for row in rows if row[3] == "the kernel"} == held
        assert {row[1]: row[4] for row in rows}["ARCH_0"] == arch_0
        found = states(run("virqs", "--probe", device=server.name()).stdout)
        assert {name for name, state in found.items() if state == "held"} == held


@pytest.mark.backends("real")
def test_the_virqs_listed_as_the_kernels_are_held_on_a_real_machine(device: str) -> None:
    _, *rows = cells(run("virqs", device=device).stdout)
    with EventChannel.open(device) as channel:
        for row in rows:
            if row[3] == "the kernel":
                with pytest.raises(FileExistsError):
                    channel.bind_virq(int(row[0]))


@pytest.mark.backends("server")
def test_a_probe_shows_which_are_free_and_leaves_them_free(server: ServerProcess) -> None:
    with EventChannel.open(server.name()) as channel:
        channel.bind_virq(Virq.CON_RING)
        found = states(run("virqs", "--probe", device=server.name()).stdout)
    held = {name for name, state in found.items() if state == "held"}
    assert held == {*IN_DOM0S_KERNEL, "CON_RING"}
    assert {found[name] for name in found if name not in held} == {"free"}


@pytest.mark.backends("preload", "real")
def test_a_probe_of_a_real_device_asks_first(device: str, here: Here) -> None:
    with on_terminal("virqs", "--probe", device=device, more={"NO_COLOR": "1"}) as process:
        process.until("? [y/N]: ")
        process.type("y\n")
        ended = process.end()
    assert ended.status == 0
    found = states(ended.output.partition("\n")[2].replace("\r", ""))
    held = {virq.name for virq in here.held}
    assert {name for name, state in found.items() if state == "held"} == held


@pytest.mark.backends("fake")
@pytest.mark.parametrize("answer", ["n\n", "\n", "\x04"], ids=["no", "nothing", "end of input"])
def test_any_answer_but_yes_aborts(answer: str) -> None:
    with on_terminal("virqs", "--probe", device=NODE) as process:
        process.until(QUESTION)
        process.type(answer)
        ended = process.end()
    assert ended.status == 1
    assert ended.output.split()[-1] == "Aborted!"


@pytest.mark.backends("fake")
def test_ctrl_c_at_the_question_is_status_130() -> None:
    with on_terminal("virqs", "--probe", device=NODE) as process:
        process.until(QUESTION)
        # If Ctrl-C comes between question and read, Python handles it only at the next key.
        process.type("\x03\n")
        ended = process.end()
    assert ended.status == 130
    assert "Aborted" not in ended.output


@pytest.mark.backends("fake")
def test_without_an_input_it_aborts() -> None:
    result = run("virqs", "--probe", device=NODE)
    assert (result.returncode, result.stdout) == (1, "")
    assert result.stderr == f"{QUESTION}Aborted!\n"

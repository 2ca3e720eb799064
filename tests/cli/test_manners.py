"""What all commands have in common: streams, statuses, signals, colours, and no traceback."""

import os
import signal
import sys
from pathlib import Path

import pytest

from ..command import on_terminal, run, running, shell

pytestmark = pytest.mark.backends("fake")

# Each writes to standard output and ends by itself.
WRITERS = [
    "--version",
    "--help",
    "watch --help",
    "virqs",
    "virqs --probe",
    "doctor",
    "doctor --json",
    "selftest",
    "ping -c 2 -i 0",
    "watch --virq argo --banner -t 0",
    "bind-virq argo -t 0",
]

GREEN = "\x1b[32m"


@pytest.mark.parametrize("command", WRITERS)
def test_a_pipe_that_is_closed_ends_it_quietly(command: str) -> None:
    result = shell(f"exec 3> >(:); wait $!; xenevtchn {command} >&3")
    assert (result.returncode, result.stderr) == (1, "")


def test_a_pipe_that_closes_ends_an_endless_command() -> None:
    result = shell("xenevtchn ping -i 0 | head -n 3; echo ${PIPESTATUS[0]}")
    *lines, status = result.stdout.splitlines()
    assert (len(lines), status, result.stderr) == (3, "1", "")


@pytest.mark.parametrize("command", WRITERS)
def test_a_full_disk_is_one_line(command: str) -> None:
    result = shell(f"xenevtchn {command} >/dev/full")
    assert (result.returncode, result.stderr) == (1, "Error: No space left on device\n")


@pytest.mark.parametrize("command", WRITERS)
def test_closed_streams_do_not_matter(command: str) -> None:
    result = shell(f"xenevtchn {command} <&- >&-")
    assert (result.returncode, result.stderr) == (0, "")
    result = shell(f"xenevtchn {command} <&- >&- 2>&-")
    assert result.returncode == 0


@pytest.mark.parametrize("streams", ["2>&-", "2>/dev/full", ">&- 2>&-", ">/dev/full 2>/dev/full"])
def test_an_error_that_cannot_be_printed_still_sets_the_status(streams: str) -> None:
    result = shell(f"xenevtchn --device /nowhere ping {streams}")
    assert (result.returncode, result.stdout, result.stderr) == (1, "", "")


def test_a_question_with_a_closed_input_aborts() -> None:
    result = shell("xenevtchn --device /dev/null virqs --probe <&-")
    assert (result.returncode, result.stdout) == (1, "")
    assert result.stderr.endswith("Aborted!\n")


def test_each_line_is_written_at_once() -> None:
    # Each command writes one line and then waits: a line in a buffer would never come.
    for command in (["bind-virq", "argo"], ["pong", "0"], ["ping", "-i", "60"]):
        with running(*command) as process:
            assert process.line()
            assert process.interrupt().status == 130


@pytest.mark.parametrize(
    "command",
    [
        ["bind-virq", "argo"],
        ["watch", "--virq", "argo", "--banner"],
        ["watch", "--virq", "argo", "--rate", "--banner"],
        ["pong", "0"],
        ["ping", "-i", "60"],
    ],
    ids=" ".join,
)
@pytest.mark.parametrize(
    ("number", "status"),
    [
        (signal.SIGINT, 130),
        (signal.SIGTERM, -signal.SIGTERM),
        (signal.SIGHUP, -signal.SIGHUP),
    ],
)
def test_signals_end_it_quietly(command: list[str], number: int, status: int) -> None:
    with running(*command) as process:
        assert process.line()
        process.signal(number)
        ended = process.end()
    assert (ended.status, ended.errors) == (status, "")


@pytest.mark.parametrize(
    ("command", "number", "status"),
    [
        ("ping -i 60", signal.SIGINT, 130),
        ("watch --virq argo --rate --banner", signal.SIGINT, 130),
        ("fake serve --socket socket", signal.SIGINT, 130),
        ("fake serve --socket socket", signal.SIGTERM, 0),
        ("fake serve --socket socket", signal.SIGHUP, 0),
    ],
)
def test_the_same_signal_many_times_changes_nothing(
    command: str,
    number: int,
    status: int,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    monkeypatch.chdir(tmp_path)
    with running(*command.split()) as process:
        assert process.line()
        for _ in range(100_000):
            if process.process.poll() is not None:
                break
            process.signal(number)
        ended = process.end()
    assert (ended.status, ended.errors) == (status, "")
    assert list(tmp_path.iterdir()) == []


def test_ctrl_c_on_a_terminal() -> None:
    with on_terminal("ping", "-i", "60") as process:
        process.until("seq=1")
        process.type("\x03")
        ended = process.end()
    assert ended.status == 130
    assert "1 sent, 1 returned, 0 lost" in ended.output


def test_python_runs_it_as_a_module() -> None:
    with running("-m", "pyxenevtchn", "ping", "-i", "60", program=sys.executable) as process:
        process.until("seq=1")
        ended = process.interrupt()
    assert (ended.status, ended.errors) == (130, "")
    assert "1 sent, 1 returned, 0 lost" in ended.output


def test_ctrl_c_while_it_still_loads(tmp_path: Path) -> None:
    # A module that is found instead of click, and is interrupted while it is imported.
    (tmp_path / "click.py").write_text("raise KeyboardInterrupt\n")
    result = run("ping", more={"PYTHONPATH": str(tmp_path)})
    assert (result.returncode, result.stdout, result.stderr) == (130, "", "")


def test_colours_are_for_terminals() -> None:
    assert "\x1b" not in run("selftest").stdout
    with on_terminal("selftest") as process:
        assert f"{GREEN}ok" in process.end().output


@pytest.mark.parametrize(("value", "coloured"), [("1", False), ("0", False), ("", True)])
def test_no_color_is_obeyed(value: str, *, coloured: bool) -> None:
    with on_terminal("selftest", more={"NO_COLOR": value}) as process:
        assert (GREEN in process.end().output) is coloured


@pytest.mark.parametrize("command", ["--help", "fake --help", "virqs", "doctor"])
def test_any_locale_will_do(command: str) -> None:
    locale = {"LANG": "C", "LC_ALL": "C", "PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": "0"}
    result = run(*command.split(), more=locale)
    assert (result.returncode, result.stderr) == (0, "")


# Bytes that are not UTF-8, as Python passes them in a string.
GARBAGE = os.fsdecode(b"x\xff\xfe")

HUGE = "9" * 5000


@pytest.mark.parametrize(
    ("arguments", "status"),
    [
        ([GARBAGE], 2),
        ([""], 2),
        (["--nope"], 2),
        (["--device"], 2),
        (["--device", GARBAGE, "ping"], 1),
        (["--device", f"fake:{GARBAGE}", "ping"], 1),
        (["--device", f"fake:unix:{GARBAGE}", "ping"], 1),
        (["--device", "fake:unix:", "ping"], 1),
        (["--device", "fake:?", "ping", "-c1"], 0),
        (["--device", "fake:?domid", "ping"], 1),
        (["--device", f"fake:?domid={HUGE}", "ping"], 1),
        (["--device", "fake:?domid=32752", "ping"], 1),
        (["--device", f"fake:unix:/{'x' * 200}", "ping"], 1),
        (["--device", "x" * 5000, "ping"], 1),
        (["--device", "/", "ping"], 1),
        (["--device", "/dev/null", "ping"], 1),
        (["--device", "/etc/passwd", "ping"], 1),
        (["--device", "/etc/passwd/x", "selftest"], 1),
        (["bind-virq", GARBAGE], 2),
        (["watch", "--virq", "argo", "--format", f"{GARBAGE}{{time}}", "-t", "0"], 0),
        (["watch", "--virq", "argo", "--exec", GARBAGE, "-t", "0"], 0),
        (["watch", "--virq", "argo", "-n", HUGE], 2),
        (["watch", "--virq", "argo", "-t", HUGE], 2),
        (["watch", "--virq", "argo", "-n", "9" * 30, "-t", "0"], 3),
        (["ping", "-i", GARBAGE], 2),
        (["ping", f"{HUGE}:1"], 2),
        (["ping", "0:0"], 1),
        (["ping", "0:4294967295"], 1),
        (["pong", HUGE], 2),
        (["notify", GARBAGE], 2),
        (["notify", "-"], 2),
        (["virqs", "more"], 2),
        (["doctor", "--json", "--device", GARBAGE], 1),
        (["fake", GARBAGE], 2),
        (["fake", "serve", "--socket", GARBAGE * 200], 1),
        (["ports", HUGE], 2),
        (["fake", "deliver", "--socket", "/dev/null"], 1),
        (["fake", "raise-virq", HUGE], 2),
    ],
    ids=lambda value: (
        " ".join(value)[:40].encode("ascii", "replace").decode()
        if isinstance(value, list)
        else str(value)
    ),
)
def test_garbage_gives_no_traceback(arguments: list[str], status: int) -> None:
    result = run(*arguments)
    assert "Traceback" not in result.stderr
    assert result.returncode == status, result.stderr


@pytest.mark.parametrize("encoding", ["ascii", "latin-1"])
def test_what_the_terminal_cannot_show_is_escaped(encoding: str) -> None:
    result = run("pong", "Ж", more={"PYTHONIOENCODING": encoding})
    assert (result.returncode, result.stdout) == (2, "")
    # Where the encoding is ASCII, click uses UTF-8.
    shown = "Ж" if encoding == "ascii" else "\\u0416"
    assert f"'{shown}' is not a domid" in result.stderr


def test_a_name_that_is_not_utf8_is_printed_unchanged(tmp_path: Path) -> None:
    path = os.fsencode(tmp_path) + b"/\xff"
    with running("fake", "serve", "--socket", path) as server:
        server.line()
        device = os.fsdecode(b"fake:unix:" + path)
        assert f"PING {device}: " in run("ping", "-c", "1", device=device).stdout

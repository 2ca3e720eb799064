"""The installed command, run as a process."""

import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

COMMAND = Path(sys.executable).with_name("xenevtchn")


def run(*arguments: str, device: str = "fake:") -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [COMMAND, *arguments],
        env={**os.environ, "XENEVTCHN_DEVICE": device},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_ping_shows_round_trips_and_their_statistics() -> None:
    result = run("ping", "-c", "5", "-i", "0")
    assert result.returncode == 0, result.stderr
    first, *trips, title, counts, times = result.stdout.splitlines()
    assert re.fullmatch(r"PING fake:: port \d+ <-> port \d+", first)
    assert [re.sub(r"=[\d.]+ ms", "=… ms", trip) for trip in trips] == [
        f"seq={n} time=… ms" for n in range(1, 6)
    ]
    assert title == "--- fake: ping statistics ---"
    assert counts == "5 sent, 5 returned, 0 lost"
    figures = re.fullmatch(
        r"round trip min/median/p99/max = ([\d.]+)/([\d.]+)/([\d.]+)/([\d.]+) ms", times
    )
    assert figures
    assert list(figures.groups()) == sorted(figures.groups(), key=float)


def test_ping_ends_with_ctrl_c_and_its_statistics() -> None:
    with subprocess.Popen(
        [COMMAND, "ping", "-i", "30", "--device", "fake:"], stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline().startswith("PING")
        assert process.stdout.readline().startswith("seq=1")
        process.send_signal(signal.SIGINT)
        rest = process.stdout.read()
    assert process.returncode == 130
    assert "1 sent, 1 returned, 0 lost" in rest


@pytest.mark.parametrize(
    "arguments",
    [["--device", "{}", "ping"], ["ping", "--device", "{}"]],
    ids=["before", "after"],
)
def test_no_device_is_one_line_and_a_hint(tmp_path: Path, arguments: list[str]) -> None:
    missing = str(tmp_path / "evtchn")
    result = run(*(argument.format(missing) for argument in arguments))
    assert result.returncode == 1
    assert result.stdout == ""
    error, hint = result.stderr.splitlines()
    assert error == f"Error: {missing}: No such file or directory"
    assert hint.startswith("Hint: ")


@pytest.mark.parametrize(
    "arguments", [["ping", "-c", "0"], ["ping", "-i", "-1"], ["ping", "-c", "x"], ["pong!"]]
)
def test_wrong_usage_exits_with_2(arguments: list[str]) -> None:
    result = run(*arguments)
    assert result.returncode == 2
    assert "Usage:" in result.stderr


def test_the_version_and_help_say_what_it_is() -> None:
    assert run("--version").stdout.startswith("xenevtchn, version ")
    assert "ping" in run("--help").stdout
    assert "--count" in run("ping", "-h").stdout

"""The Python code in the README and the documentation runs unchanged."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from ..limits import TIMEOUT
from .pages import blocks

BLOCKS = dict(blocks("python"))
# Blocks that name no device: they use the real one, where there is one.
ANY_DEVICE = {place: text for place, text in BLOCKS.items() if "EventChannel.open()" in text}


def run(text: str, directory: Path, device: str | None) -> None:
    program = directory / "test_block.py"
    program.write_text(text)
    pytest_options = ["-m", "pytest", "-q", "-p", "no:cacheprovider"] if "def test_" in text else []
    environment = {name: value for name, value in os.environ.items() if name != "XENEVTCHN_DEVICE"}
    if device:
        environment["XENEVTCHN_DEVICE"] = device
    result = subprocess.run(
        [sys.executable, "-W", "error", *pytest_options, program],
        cwd=directory,
        env=environment,
        text=True,
        capture_output=True,
        timeout=TIMEOUT,
        check=False,
    )
    assert result.returncode == 0, result.stdout + result.stderr


@pytest.mark.parametrize("place", BLOCKS)
@pytest.mark.backends("fake")
@pytest.mark.usefixtures("backend")
def test_an_example_runs_on_the_fake(place: str, tmp_path: Path) -> None:
    run(BLOCKS[place], tmp_path, "fake:")


@pytest.mark.parametrize("place", ANY_DEVICE)
@pytest.mark.backends("preload", "real")
@pytest.mark.usefixtures("device")
def test_an_example_runs_on_the_real_device(place: str, tmp_path: Path) -> None:
    run(ANY_DEVICE[place], tmp_path, None)

"""The replay of records, which tools/xentest does on a real driver, on the preloaded fake."""

import json
import shutil
import subprocess
from pathlib import Path

import pytest

from ..command import run
from ..limits import TIMEOUT
from .recording import record

pytestmark = pytest.mark.skipif(not shutil.which("cc"), reason="needs a C compiler")

SEQUENCES = 30


def replay(folder: Path, configuration: dict[str, object]) -> "subprocess.CompletedProcess[str]":
    """Record a fake of that configuration, and replay the record on a default one."""
    program = folder / "replay"
    source = Path(__file__).with_name("replay.c")
    subprocess.run(["cc", "-Wall", "-Wextra", "-o", program, source], check=True, timeout=TIMEOUT)
    machine = {"configuration": configuration, "offered": []}
    (folder / "machine.json").write_text(json.dumps(machine))
    record(folder, SEQUENCES)
    return run("fake", "run", "--check", program, folder, str(SEQUENCES), device="")


def test_a_fake_answers_as_another_that_is_like_it(tmp_path: Path) -> None:
    ended = replay(tmp_path, {"abi": "fifo"})
    assert (ended.returncode, ended.stderr) == (0, "")
    assert ended.stdout.startswith(f"{SEQUENCES} sequences, ")
    assert ended.stdout.endswith("calls, no difference\n")


def test_a_fake_with_another_kernel_answers_differently(tmp_path: Path) -> None:
    ended = replay(tmp_path, {"abi": "fifo", "linux": (6, 12)})
    assert ended.returncode == 1
    assert "request: the driver answered -38, the fake " in ended.stdout  # ENOSYS

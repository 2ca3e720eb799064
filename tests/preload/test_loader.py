"""Which programs the loader preloads into, according to their files."""

import os
import re
import shutil
from pathlib import Path

import pytest

from pyxenevtchn.fake.preload import OBJECT
from pyxenevtchn.fake.preload.loader import check_preload

PROGRAM = Path(shutil.which("true") or "/bin/true").resolve()


def refusal(program: Path) -> str:
    with pytest.raises(ValueError, match=str(program)) as caught:
        check_preload(str(program), OBJECT)
    return str(caught.value)


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """A copy of a program, for the test to change."""
    return Path(shutil.copy(PROGRAM, tmp_path / "program"))


def patch(program: Path, offset: int, data: bytes) -> None:
    with program.open("r+b") as file:
        file.seek(offset)
        file.write(data)


def test_a_program_a_script_and_other_files_are_accepted(tmp_path: Path) -> None:
    check_preload(str(PROGRAM), OBJECT)
    for number, line in enumerate((f"#!{PROGRAM}", f"#! {tmp_path}/0 -x", "text", "", "\x7fELF")):
        script = tmp_path / str(number)
        script.write_text(f"{line}\n")
        check_preload(str(script), OBJECT)


def test_another_machines_program_is_refused(copy: Path) -> None:
    patch(copy, 18, b"\xff\xfe")
    assert f"another kind of machine than {OBJECT}" in refusal(copy)


def test_a_program_of_another_c_library_is_refused(copy: Path) -> None:
    loader = re.search(rb"/lib[\w/]*/ld-[\w.-]+", copy.read_bytes())
    assert loader
    patch(copy, loader.start(), b"/lib/ld-musl.so.1".ljust(len(loader[0]), b"\0"))
    assert "musl" in refusal(copy)


def test_a_truncated_program_is_accepted(copy: Path) -> None:
    os.truncate(copy, 100)
    check_preload(str(copy), OBJECT)


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root: it gives a file to somebody else")
@pytest.mark.parametrize("mode", [0o4755, 0o2755])
def test_a_program_with_privileges_is_refused(copy: Path, tmp_path: Path, mode: int) -> None:
    os.chown(copy, 65534, 65534)
    copy.chmod(mode)
    assert "setuid" in refusal(copy)
    script = tmp_path / "script"
    script.write_text(f"#!{copy}\n")
    with pytest.raises(ValueError, match="setuid"):
        check_preload(str(script), OBJECT)

"""The C program on the page about programs in other languages, and its test's Makefile."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from ..command import shell
from ..limits import TIMEOUT
from .pages import ROOT, fenced

PAGE = (ROOT / "docs/howto/programs.md").read_text()


def block(language: str, part: str) -> str:
    """Return the page's only block of a language that contains ``part``."""
    (found,) = (match[0] for match in fenced(language).finditer(PAGE) if part in match[0])
    return found


@pytest.mark.skipif(
    not (shutil.which("cc") and shutil.which("make"))
    or not Path("/usr/include/xenevtchn.h").exists(),
    reason="needs a C compiler, make and libxen-dev",
)
def test_make_check_passes(tmp_path: Path) -> None:
    (tmp_path / "echo.c").write_text(block("c", "int main"))
    (tmp_path / "check.sh").write_text(block("sh", "#!/bin/sh"))
    (tmp_path / "Makefile").write_text(block("make", "check"))
    ended = shell(f"cd '{tmp_path}' && make --silent check", device="")
    assert ended.returncode == 0, ended.stderr
    assert re.search("^3 sent, 3 returned, 0 lost$", ended.stdout, re.MULTILINE)


@pytest.mark.skipif(not shutil.which("cc"), reason="needs a C compiler")
def test_the_command_for_a_sanitizer_works(tmp_path: Path) -> None:
    command = block("sh", "ASAN_OPTIONS")
    assert command.endswith(" ./echo-asan 1 3\n")
    (tmp_path / "program.c").write_text(
        '#include <unistd.h>\nint main(void) { return access("/dev/xen/evtchn", R_OK); }'
    )
    compiler = ["cc", "-fsanitize=address", "-o", "echo-asan", "program.c"]
    subprocess.run(compiler, cwd=tmp_path, timeout=TIMEOUT, check=True)
    ended = shell(f"cd '{tmp_path}' && {command}", device="")
    assert (ended.returncode, ended.stderr) == (0, "")

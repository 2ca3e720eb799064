"""The core from C alone: each case of each program, plain and with sanitizers."""

import re
import shutil
import subprocess
from collections.abc import Callable
from functools import cache
from pathlib import Path

import pytest

from ..limits import TIMEOUT
from ..preload.build import BUILDS, FLAGS, OPTIONS, compile_program

pytestmark = pytest.mark.skipif(not shutil.which("cc"), reason="needs a C compiler")

HERE = Path(__file__).parent
CORE = HERE.parents[1] / "core"

# What the programs do not need: Xen, and Python.
SOURCES = [
    CORE / f"{name}.c" for name in ("device", "events", "handle", "ports", "queue", "requests")
]
PROGRAMS = [path for path in sorted(HERE.glob("*.c")) if "main(" in path.read_text()]


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str, Path], Path]:
    """Compiles a program by the name of the build, once: the tests run in any order."""

    def build(name: str, program: Path) -> Path:
        binary = tmp_path_factory.mktemp(name) / program.stem
        sources = [program, HERE / "driver.c", *SOURCES]
        compile_program(binary, sources, *FLAGS[name], f"-I{CORE}")
        return binary

    return cache(build)


@pytest.mark.parametrize(
    ("name", "program", "case"),
    [
        pytest.param(name, program, case, id=f"{name}-{case}")
        for name in BUILDS
        for program in PROGRAMS
        for case in re.findall(r"CASE\((\w+)\),", program.read_text())
    ],
)
def test_a_case_of_a_program(
    built: Callable[[str, Path], Path], name: str, program: Path, case: str
) -> None:
    ended = subprocess.run(
        # Some thread sanitizers do not support all of Linux's random addresses.
        ["setarch", "-R", built(name, program), case],
        env=OPTIONS,
        capture_output=True,
        text=True,
        timeout=TIMEOUT,
        check=False,
    )
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, "", "")


@pytest.mark.parametrize("source", sorted(CORE.glob("*.c")), ids=lambda source: source.stem)
def test_the_compiler_finds_nothing_to_warn_of(source: Path) -> None:
    version = subprocess.check_output(["cc", "--version"], text=True, timeout=TIMEOUT)
    analyzer = ["-fanalyzer"] if "clang" not in version else []
    strict = ["-std=gnu11", "-O2", "-Wall", "-Wextra", "-Werror", *analyzer]
    subprocess.run(["cc", *strict, "-c", "-o", "/dev/null", source], check=True, timeout=TIMEOUT)

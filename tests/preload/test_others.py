"""Programs of other projects, and programs written like them, on the preloaded device."""

import os
import re
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path

import pytest

from pyxenevtchn.fake import preload

from ..command import run, running
from ..fake.server.process import ServerProcess
from ..limits import TIMEOUT
from .build import HERE, compile_program

OTHERS = HERE / "others"

CHECKERS = sorted(Path("/usr/lib").glob("xen-*/bin/depriv-fd-checker"))

has_compiler = pytest.mark.skipif(not shutil.which("cc"), reason="needs a C compiler")
has_library = pytest.mark.skipif(
    not Path("/usr/include/xenevtchn.h").exists(), reason="needs libxen-dev"
)


def environment(server: ServerProcess, domid: int = 0) -> Mapping[str, str]:
    without = {name: value for name, value in os.environ.items() if name != "XENEVTCHN_DEVICE"}
    return preload.environment(without, str(server.path), domid)


@has_compiler
@pytest.mark.skipif(not CHECKERS, reason="needs xen-utils")
@pytest.mark.parametrize(
    ("domid", "verdict"),
    [
        (0, "evtchn fail 9 xenevtchn_bind_unbound_port (unexpectedly succeeded) info\n"),
        (3, "evtchn pass 9 xenevtchn_notify (blocked) info\n"),
    ],
    ids=["unrestricted", "restricted"],
)
def test_xens_checker_tells_a_restricted_descriptor(
    tmp_path: Path, domid: int, verdict: str
) -> None:
    """The checker also grants a page: gntalloc.c is preloaded for that."""
    compile_program(tmp_path / "hold", [OTHERS / "hold.c"])
    compile_program(tmp_path / "gntalloc.so", [OTHERS / "gntalloc.c"], "-fPIC", "-shared")
    ended = run(
        *("fake", "run", tmp_path / "hold", str(domid)),
        *(CHECKERS[-1], "evtchn", "9", "info"),
        device="",
        more={"LD_PRELOAD": str(tmp_path / "gntalloc.so")},
    )
    assert ended.returncode == 0, ended.stderr
    assert ended.stdout == f"evtchn checking 9 dup-hack (in progress) info\n{verdict}"


LIBRARY = OTHERS / "library.c"


@has_compiler
@has_library
@pytest.mark.parametrize("case", re.findall(r"CASE\((\w+)\),", LIBRARY.read_text()))
def test_a_program_on_the_c_library(server: ServerProcess, tmp_path: Path, case: str) -> None:
    compile_program(tmp_path / "program", [LIBRARY], "-lxenevtchn")
    ended = subprocess.run(
        [tmp_path / "program", case],
        env=environment(server),
        capture_output=True,
        text=True,
        timeout=TIMEOUT,
        check=False,
    )
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, "", "")


@has_compiler
@has_library
def test_two_processes_in_two_domains_make_10000_round_trips(
    server: ServerProcess, tmp_path: Path
) -> None:
    program = tmp_path / "program"
    compile_program(program, [OTHERS / "round_trips.c"], "-lxenevtchn")
    backend, frontend = environment(server), environment(server, 1)
    with running("offer", "1", "10000", program=program, device="", more=backend) as offers:
        port = offers.line()
        answers = running("answer", "0", port, "10000", program=program, device="", more=frontend)
        with answers as process:
            assert process.end() == (0, "", "")
        assert offers.end() == (0, "", "")


@pytest.mark.skipif(not shutil.which("rustc"), reason="needs a Rust compiler")
def test_a_program_in_rust(tmp_path: Path) -> None:
    program = tmp_path / "program"
    compiler: list[str | Path] = ["rustc", "-o", program, OTHERS / "loopback.rs"]
    subprocess.run(compiler, cwd=tmp_path, timeout=TIMEOUT, check=True)
    ended = run("fake", "run", "--check", program, device="")
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, "101 events\n", "")

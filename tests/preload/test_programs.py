"""C programs on the preloaded device: each case of each program, in each build."""

import re
import shutil
from collections.abc import Callable
from functools import cache

import pytest

from ..fake.server.process import ServerProcess
from .build import BUILDS, HERE, Build, build

pytestmark = pytest.mark.skipif(not shutil.which("cc"), reason="needs a C compiler")

# The thread sanitizer delays a signal until a call returns, and this call restarts each time.
NEVER_ENDS = ("thread", "a_read_is_restarted_with_sa_restart")

CASES = [
    pytest.param(name, source.stem, case, id=f"{name}-{case}")
    for name in BUILDS
    for source in sorted(HERE.glob("*.c"))
    for case in re.findall(r"CASE\((\w+)\),", source.read_text())
    if (name, case) != NEVER_ENDS
]


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Build]:
    """Makes a build by its name, once: the tests run in any order."""
    return cache(lambda name: build(name, tmp_path_factory.mktemp(name)))


@pytest.mark.parametrize(("name", "program", "case"), CASES)
def test_a_case_of_a_program(
    built: Callable[[str], Build], server: ServerProcess, name: str, program: str, case: str
) -> None:
    ended = built(name).run(program, case, device=server.name())
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, "", "")

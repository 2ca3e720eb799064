"""A test that is skipped fails where it could run."""

from pathlib import Path

import pytest

from .limits import NESTED_TIMEOUT, nested

pytest_plugins = ["pytester"]

pytestmark = nested

CONFTEST = """
from tests.skips import Skips

def pytest_configure(config):
    config.pluginmanager.register(Skips(LACKING))
"""

TESTS = """
import pytest

def test_xen():
    pytest.skip("needs a real Xen: somewhere else")

@pytest.mark.skipif(True, reason="needs zsh")
def test_zsh():
    pass

@pytest.fixture
def fish():
    pytest.skip("needs fish")

def test_fish(fish):
    pass

@pytest.mark.xfail
def test_known():
    raise AssertionError
"""

MODULE = """
import pytest

pytest.skip("needs groff", allow_module_level=True)
"""


def run(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch, lacking: list[str]
) -> pytest.RunResult:
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[1]))
    pytester.makeconftest(CONFTEST.replace("LACKING", repr(lacking)))
    pytester.makepyfile(test_here=TESTS, test_module=MODULE)
    return pytester.runpytest_subprocess(timeout=NESTED_TIMEOUT)


def test_only_a_test_that_needs_what_the_machine_lacks_may_be_skipped(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    result = run(pytester, monkeypatch, ["a real Xen", "groff"])
    result.assert_outcomes(skipped=2, errors=2, xfailed=1)
    for what in ("zsh", "fish"):
        result.stdout.fnmatch_lines([f"skipped, where it could run: needs {what}"])


def test_a_module_that_is_skipped_fails_too(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    result = run(pytester, monkeypatch, ["a real Xen", "zsh", "fish"])
    assert result.ret != 0
    result.stdout.fnmatch_lines(["skipped, where it could run: needs groff"])


def test_every_test_may_be_skipped_where_no_lack_is_named(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    run(pytester, monkeypatch, []).assert_outcomes(skipped=4, xfailed=1)

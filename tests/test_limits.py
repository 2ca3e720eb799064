"""A test run ends and leaves no process behind, also when a test hangs or the run is killed."""

import os
import signal
import sys
from pathlib import Path

import pytest

from .command import Stream, running
from .limits import NESTED_TIMEOUT, nested

pytest_plugins = ["pytester"]

pytestmark = nested

ROOT = Path(__file__).parents[1]

CONFTEST = """
from tests.limits import Limits
from tests.reaper import Reaper

def pytest_configure(config):
    config.pluginmanager.register(Limits(config))
    config.pluginmanager.register(Reaper())
"""

HANGING = """
import os, re, threading, pytest

@pytest.mark.timeout(2)
def test_join():
    def spin():
        while True:
            pass

    thread = threading.Thread(target=spin)
    thread.start()
    thread.join()

@pytest.mark.timeout(2)
def test_read():
    end, _ = os.pipe()
    os.read(end, 1)

@pytest.mark.timeout(2)
def test_c_that_keeps_the_interpreters_lock():
    re.match("(a*)*b", "a" * 100)

@pytest.fixture
def late():
    yield
    threading.Event().wait()

@pytest.mark.timeout(2)
def test_teardown_of_a_failure(late):
    raise AssertionError

def test_another():
    pass
"""


@pytest.fixture
def project(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> pytest.Pytester:
    """A folder whose tests have these limits."""
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    pytester.makeconftest(CONFTEST)
    return pytester


def test_a_test_that_hangs_fails_and_says_where(project: pytest.Pytester) -> None:
    project.makepyfile(HANGING)
    result = project.runpytest_subprocess("-n", "4", timeout=NESTED_TIMEOUT)
    result.assert_outcomes(passed=1, failed=5)
    for name in ("in spin", "in test_join", "in test_read", "in test_c_that_keeps_*", "in late"):
        result.stdout.fnmatch_lines([f"  File *test_a_test_that_hangs*.py*{name}"])
    result.stdout.no_fnmatch_line("*site-packages*")


def test_without_workers_the_run_ends_there(project: pytest.Pytester) -> None:
    project.makepyfile(HANGING)
    result = project.runpytest_subprocess("-n", "0", "-k", "test_read", timeout=NESTED_TIMEOUT)
    assert result.ret == 1
    result.stderr.fnmatch_lines(["Timeout*", "  File *in test_read"])


SERVING = """
import os, subprocess
from tests.command import COMMAND

def test_serve():
    fifo = os.open("fifo", os.O_WRONLY)
    server = subprocess.Popen(
        [COMMAND, "fake", "serve", "--socket", "socket"],
        stdout=subprocess.PIPE,
        stderr=fifo,
        start_new_session=True,
    )
    os.write(fifo, server.stdout.readline())
    END
"""


@pytest.mark.parametrize("workers", [0, 1])
@pytest.mark.parametrize("end", ["os._exit(1)", "server.wait()"], ids=["dies", "is-killed"])
def test_a_run_that_dies_leaves_no_server_behind(
    project: pytest.Pytester, end: str, workers: int
) -> None:
    fifo = project.path / "fifo"
    os.mkfifo(fifo)
    project.makepyfile(SERVING.replace("END", end))
    with (
        os.fdopen(os.open(fifo, os.O_RDONLY | os.O_NONBLOCK)) as reader,
        running("-m", "pytest", "-n", str(workers), program=sys.executable) as tests,
    ):
        written = Stream(reader.fileno())
        written.timeout = NESTED_TIMEOUT
        assert written.until("\n") == "serving fake:unix:socket\n"
        if end == "server.wait()":
            tests.signal(signal.SIGKILL)
        # The pipe ends when no process has it open: the server and its guardian have ended.
        assert written.rest() == ""

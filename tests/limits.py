"""A plugin of pytest: a test ends within its limit, whatever it is stuck in.

The limit is pytest-timeout's: of the test's marker, the option --timeout, or pyproject.toml.
"""

import faulthandler
import os
import re
import sys
from contextlib import ExitStack
from tempfile import TemporaryFile
from typing import IO, TYPE_CHECKING, Protocol

import pytest

if TYPE_CHECKING:
    from xdist.workermanage import WorkerController  # type: ignore[import-untyped]

# What a test waits for at most, in seconds. Far longer than anything takes, on an emulated machine
# too: what lasts so long has failed. Shorter than the limit, which tells less.
TIMEOUT = 100.0

# For tests that run pytest, with processes of its own: they take seconds on an idle machine.
NESTED_TIMEOUT = 240.0
nested = pytest.mark.timeout(NESTED_TIMEOUT + 60)

# What runs the tests: its lines of a stack, and the threads that have no other line.
_MACHINERY = re.compile(
    r'  File "(<.*>|.*/site-packages/(_pytest|pytest|pluggy|xdist|execnet)/.*)", line .*\n'
)
_NOTHING_ELSE = re.compile(r"Thread .*:\n(\n|\Z)")

_LIMIT = pytest.StashKey[float]()


class Settings(Protocol):
    """What pytest-timeout has found out about a test; the limit is in seconds."""

    timeout: float


class CrashReport(Protocol):
    """xdist's report of a test whose process has died."""

    node: "WorkerController"
    longrepr: str


class Limits:
    """Ends the process of a test that takes too long, and shows what each thread does there.

    faulthandler's timer is a thread of C that needs no lock of Python's: it also ends a test that
    is stuck in C or in a signal handler. With xdist the stacks are in the report, and another
    process runs the tests that follow; without, they are on standard error.
    """

    def __init__(self, config: pytest.Config) -> None:
        worker = getattr(config, "workerinput", None)
        # Without xdist, standard error as it is now: a test's output goes elsewhere.
        self._output = (
            os.open(worker["stacks"], os.O_WRONLY | os.O_CLOEXEC)
            if worker
            else os.dup(sys.stderr.fileno())
        )
        self._files = ExitStack()
        self._stacks: dict[str, IO[str]] = {}

    def pytest_unconfigure(self) -> None:
        os.close(self._output)
        self._files.close()

    def pytest_timeout_set_timer(self, item: pytest.Item, settings: Settings) -> bool:
        item.stash[_LIMIT] = settings.timeout
        self._start(item)
        return True

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_teardown(self, item: pytest.Item) -> None:
        # Where a test has failed, pytest has stopped the timer, for a debugger's sake.
        self._start(item)

    def pytest_timeout_cancel_timer(self) -> bool:
        faulthandler.cancel_dump_traceback_later()
        return True

    def _start(self, item: pytest.Item) -> None:
        if limit := item.stash.get(_LIMIT, 0):
            faulthandler.dump_traceback_later(limit, file=self._output, exit=True)

    @pytest.hookimpl(optionalhook=True)
    def pytest_configure_node(self, node: "WorkerController") -> None:
        file = self._files.enter_context(TemporaryFile("w+"))  # noqa: SIM115 - in the stack
        self._stacks[node.gateway.id] = file
        node.workerinput["stacks"] = f"/proc/{os.getpid()}/fd/{file.fileno()}"

    @pytest.hookimpl(optionalhook=True)
    def pytest_handlecrashitem(self, report: CrashReport) -> None:
        file = self._stacks[report.node.gateway.id]
        file.seek(0)
        report.longrepr += "\n" + _NOTHING_ELSE.sub("", _MACHINERY.sub("", file.read()))

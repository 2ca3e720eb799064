"""A pytest plugin: fails tests that are skipped although they could run on this machine.

The reason of a skip is what the test needs, "needs SOMETHING" or "needs SOMETHING: more about it".
--may-skip names what the machine lacks; a test that is skipped for any other need fails.
"""

from collections.abc import Generator, Sequence
from typing import TypeVar

import pytest

# What most machines lack.
XEN = "a real Xen"

Report = TypeVar("Report", pytest.TestReport, pytest.CollectReport)


class Skips:
    """Fails the tests and modules that are skipped for another need.

    Args:
        lacking: what this machine lacks; if empty, every skip is allowed.
    """

    def __init__(self, lacking: Sequence[str]) -> None:
        self._lacking = lacking

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_makereport(
        self,
    ) -> Generator[None, pytest.TestReport, pytest.TestReport]:
        return self._judge((yield))

    @pytest.hookimpl(wrapper=True)
    def pytest_make_collect_report(
        self,
    ) -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
        return self._judge((yield))

    def _judge(self, report: Report) -> Report:
        if self._lacking and report.skipped and isinstance(report.longrepr, tuple):
            reason = report.longrepr[2].removeprefix("Skipped: ")
            if reason.partition(":")[0] not in {f"needs {each}" for each in self._lacking}:
                report.outcome = "failed"
                report.longrepr = f"skipped, where it could run: {reason}"
        return report

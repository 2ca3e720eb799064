"""The fixtures, as those who install the package use them."""

import pytest

from .limits import NESTED_TIMEOUT, nested

pytest_plugins = ["pytester"]

pytestmark = nested


def test_the_fixtures_work_together(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(
        """
        def test_dom0(xenevtchn_dom0, xenevtchn_hypervisor):
            port = xenevtchn_dom0.bind_virq(11)
            xenevtchn_hypervisor.raise_virq(11, xenevtchn_hypervisor.dom0)
            assert xenevtchn_dom0.wait(0) == [port]

        def test_domains(xenevtchn_domains):
            ends = xenevtchn_domains
            ends.frontend.notify(ends.frontend_port)
            assert ends.backend.wait(0) == [ends.backend_port]
            ends.backend.notify(ends.backend_port)
            assert ends.frontend.wait(0) == [ends.frontend_port]
        """
    )
    result = pytester.runpytest_subprocess("-W", "error", timeout=NESTED_TIMEOUT)
    result.assert_outcomes(passed=2)


def test_a_leak_is_the_tests_error(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(
        """
        leaked = []

        def test_leak(xenevtchn_hypervisor):
            leaked.append(xenevtchn_hypervisor.dom0.open())
        """
    )
    result = pytester.runpytest_subprocess("-W", "ignore::ResourceWarning", timeout=NESTED_TIMEOUT)
    result.assert_outcomes(passed=1, errors=1)
    result.stdout.fnmatch_lines(["*AssertionError*"])


def test_nothing_happens_to_tests_that_do_not_ask(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(
        """
        import sys

        def test_nothing():
            assert "pyxenevtchn.fake" not in sys.modules
        """
    )
    pytester.runpytest_subprocess(timeout=NESTED_TIMEOUT).assert_outcomes(passed=1)
    result = pytester.runpytest_subprocess("--fixtures", timeout=NESTED_TIMEOUT)
    result.stdout.fnmatch_lines(["xenevtchn_hypervisor*", "xenevtchn_dom0*", "xenevtchn_domains*"])

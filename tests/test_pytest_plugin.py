"""The fixtures of the pytest plugin, in a user's tests."""

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


def test_a_program_has_a_fake_of_its_own(pytester: pytest.Pytester) -> None:
    pytester.makefile(
        ".py",
        program="""
        from pyxenevtchn import EventChannel, Virq

        with EventChannel.open("/dev/xen/evtchn") as channel:
            print(channel.bind_virq(Virq.ARGO), flush=True)
            assert channel.wait(20)
        """,
        test_program="""
        import subprocess, sys

        PROGRAM = [sys.executable, "program.py"]

        def start(env):
            return subprocess.Popen(PROGRAM, env=env, stdout=subprocess.PIPE)

        def test_programs_in_two_domains(xenevtchn_environment):
            environment = xenevtchn_environment
            for domid, env in ((0, environment), (5, environment.domain(5))):
                with start(env) as process:
                    port = int(process.stdout.readline())
                    assert port in {each.port for each in environment.hypervisor.ports(domid)}
                    environment.hypervisor.raise_virq(11, domid)
                assert process.returncode == 0

        def test_a_program_that_lives_on(xenevtchn_environment):
            start(xenevtchn_environment).stdout.readline()
        """,
    )
    result = pytester.runpytest_subprocess("-W", "ignore", timeout=NESTED_TIMEOUT)
    result.assert_outcomes(passed=2, errors=1)
    result.stdout.fnmatch_lines(["*AssertionError: left behind in domain 0: a handle of*"])


def test_a_kernels_bug_is_the_tests_error(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(
        """
        from pyxenevtchn import EventChannel
        from pyxenevtchn.fake import KernelBug

        def test_close_after_restore(xenevtchn_environment):
            xen = xenevtchn_environment.hypervisor
            channel = EventChannel.open(xenevtchn_environment.device(5))
            channel.bind_unbound_port(0)
            xen.save_domain(5)
            xen.restore_domain(5)
            try:
                channel.close()
            except KernelBug:
                pass
        """
    )
    result = pytester.runpytest_subprocess(timeout=NESTED_TIMEOUT)
    result.assert_outcomes(passed=1, errors=1)
    result.stdout.fnmatch_lines(["*Failed: kernel bug: BUG_ON(irq < 0) in *"])


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


def test_tests_without_the_fixtures_are_not_affected(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(
        """
        import sys

        def test_nothing():
            assert "pyxenevtchn.fake" not in sys.modules
        """
    )
    pytester.runpytest_subprocess(timeout=NESTED_TIMEOUT).assert_outcomes(passed=1)
    listed = pytester.runpytest_subprocess("--fixtures", timeout=NESTED_TIMEOUT).stdout.str()
    for name in ("hypervisor", "dom0", "domains", "environment"):
        assert f"\nxenevtchn_{name} " in listed

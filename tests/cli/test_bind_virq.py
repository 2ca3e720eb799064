"""xenevtchn bind-virq."""

import re

import pytest

from pyxenevtchn import EventChannel, Virq

from ..command import run, running
from ..fake.server.process import ServerProcess

pytestmark = pytest.mark.backends("server")


@pytest.mark.parametrize("name", ["CON_RING", "virq-con-ring", "8"])
def test_it_prints_the_port_and_then_the_events(server: ServerProcess, name: str) -> None:
    with running("bind-virq", name, device=server.name()) as process:
        found = re.fullmatch(r"port (\d+) is virq:CON_RING", process.line())
        assert found
        for _ in range(2):
            server.xen.raise_virq(Virq.CON_RING)
            assert process.line().split(" ")[1:] == [found[1], "virq:CON_RING"]
        assert process.interrupt() == (130, "", "")


def test_the_count_ends_it(server: ServerProcess) -> None:
    with running("bind-virq", "debug", "-n", "1", device=server.name(3)) as process:
        assert process.line().endswith("is virq:DEBUG")
        server.xen.raise_virq(Virq.DEBUG, 3)
        ended = process.end()
    assert (ended.status, ended.errors) == (0, "")
    assert ended.output.endswith(" virq:DEBUG\n")


@pytest.mark.backends("fake", "server", "preload", "real")
def test_no_event_in_time_is_status_3(device: str) -> None:
    result = run("bind-virq", "argo", "-t", "0.01", "-n", "1", device=device)
    assert (result.returncode, result.stderr) == (3, "")
    assert re.fullmatch(r"port \d+ is virq:ARGO\n", result.stdout)


def test_without_a_count_the_timeout_is_success(device: str) -> None:
    assert run("bind-virq", "argo", "-t", "0", device=device).returncode == 0


def test_a_virq_that_is_bound_already_is_one_line_and_a_hint(device: str) -> None:
    with EventChannel.open(device) as channel:
        channel.bind_virq(Virq.DOM_EXC)
        result = run("bind-virq", "3", device=device)
    assert (result.returncode, result.stdout) == (1, "")
    error, hint, *holder = result.stderr.splitlines()
    assert error == f"Error: {device}: bind_virq(virq=DOM_EXC): File exists"
    assert re.match("Hint: a VIRQ can be bound once in a domain[;:] .*DOM_EXC", hint)
    # It is known to root in dom0, and on a fake that has a port table.
    assert not holder or re.match("Hint: DOM_EXC is bound to port [0-9]+, and its hold", holder[0])


def test_a_virq_that_xen_does_not_have_is_an_error(device: str) -> None:
    result = run("bind-virq", "24", device=device)
    assert (result.returncode, result.stdout) == (1, "")
    assert result.stderr.startswith(f"Error: {device}: bind_virq(virq=24): Invalid argument\n")


@pytest.mark.backends("fake")
@pytest.mark.parametrize("virq", ["nope", "", "4294967296", "-1", "9" * 5000, "٣", "8.0"])
def test_an_unknown_virq_is_wrong_usage(virq: str) -> None:
    result = run("bind-virq", virq)
    assert (result.returncode, result.stdout) == (2, "")
    assert result.stderr.startswith("Usage: xenevtchn bind-virq ")

"""console_ring.py and domain_death.py."""

from collections.abc import Callable
from typing import NoReturn

import pytest

from pyxenevtchn import EventChannel, Virq

from ..command import running
from ..fake.server.process import ServerProcess
from ..toolstack import let_a_domain_die, press_debug_key, xenstored
from .programs import running_example

Unavailable = Callable[[str], NoReturn]

SEEN = " a domain shut down or died: see `xl list`"


@pytest.mark.backends("server")
@pytest.mark.usefixtures("backend")
def test_the_fakes_console_is_watched(server: ServerProcess) -> None:
    with running_example("console_ring", device=server.name()) as program:
        assert program.line() == "watching Xen's console"
        for _ in range(2):
            server.xen.raise_virq(Virq.CON_RING)
            assert program.line().endswith(" Xen wrote to its console: see `xl dmesg`")
        assert program.interrupt() == (130, "", "")


@pytest.mark.backends("real")
def test_xens_console_is_watched(device: str, unavailable: Unavailable) -> None:
    with running_example("console_ring", device=device) as program:
        assert program.line() == "watching Xen's console"
        for _ in range(2):
            press_debug_key(unavailable)
            assert program.line().endswith(" Xen wrote to its console: see `xl dmesg`")
        ended = program.interrupt()
    # Xen may have written another line meanwhile.
    assert (ended.status, ended.errors) == (130, "")


@pytest.mark.backends("server")
@pytest.mark.usefixtures("backend")
def test_the_death_of_a_domain_of_the_fake_is_seen(server: ServerProcess) -> None:
    with running_example("domain_death", device=server.name()) as program:
        assert program.line() == "watching the domains"
        for _ in range(2):
            server.xen.destroy_domain(server.xen.create_domain())
            assert program.line().endswith(SEEN)
        ended = program.interrupt()
    # The program may report a death twice.
    assert all(line.endswith(SEEN) for line in ended.output.splitlines())
    assert (ended.status, ended.errors) == (130, "")


@pytest.mark.backends("real")
def test_the_death_of_a_domain_is_seen(device: str) -> None:
    with running_example("domain_death", device=device) as program:
        assert program.line() == "watching the domains"
        for _ in range(2):
            let_a_domain_die()
            assert program.line().endswith(SEEN)
        ended = program.interrupt()
    # The program may report a death twice.
    assert (ended.status, ended.errors) == (130, "")


@pytest.mark.backends("server", "preload", "real")
@pytest.mark.parametrize(
    ("example", "virq", "advice"),
    [
        ("console_ring", Virq.CON_RING, "restart it with --log=guest"),
        ("domain_death", Virq.DOM_EXC, "xenstore-watch @releaseDomain"),
    ],
)
def test_a_virq_that_is_bound_already_is_an_error_with_a_hint(
    device: str, example: str, virq: Virq, advice: str
) -> None:
    with EventChannel.open(device) as holder:
        holder.bind_virq(virq)
        with running_example(example, device=device) as program:
            ended = program.end()
    assert (ended.status, ended.output) == (1, "")
    assert f"bind_virq(virq={virq.name}): File exists" in ended.errors
    assert advice in ended.errors
    assert "Traceback" not in ended.errors


@pytest.mark.backends("real")
def test_where_xenstored_holds_the_virq_the_hint_works(
    device: str, unavailable: Unavailable
) -> None:
    with xenstored(unavailable):
        with running_example("domain_death", device=device) as program:
            ended = program.end()
        assert ended.status == 1
        advised = ended.errors.partition("`")[2].partition("`")[0].split()
        with running(*advised[1:], device="", program=advised[0]) as watcher:
            assert watcher.line() == "@releaseDomain"

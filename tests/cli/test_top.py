"""xenevtchn top."""

import collections
import datetime as dt
import json
import re
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any, NoReturn

import pytest

from pyxenevtchn import DOMID_SELF, EventChannel
from pyxenevtchn.cli.interrupts import Counter, Usage, compare, parse

from ..command import on_terminal, process_name, run, running
from ..fake.server.process import ServerProcess
from ..limits import TIMEOUT
from ..toolstack import xenstored

INTERRUPTS = """\
            CPU0       CPU1
  1:          0          9  xen-pirq    -ioapic-edge  i8042
 36:          5          0   xen-dyn    -event     xenbus
 44:          7         12  xen-dyn-lateeoi    -event     evtchn:xenstored
 45:         11          0  xen-dyn-lateeoi    -event     evtchn:qemu system x
NMI:          0          0   Non-maskable interrupts
ERR:          3
"""


@pytest.mark.backends("fake")
def test_the_lines_of_proc_interrupts_are_parsed() -> None:
    assert parse(INTERRUPTS) == [Counter(44, "xenstored", 19), Counter(45, "qemu system x", 11)]
    assert parse("") == []


@pytest.mark.backends("fake")
def test_two_samples_give_the_events_between_them() -> None:
    before = [Counter(1, "a", 10), Counter(2, "b", 50), Counter(3, "gone", 9)]
    # In between, interrupt 2 was bound again and 4 is new.
    after = [Counter(1, "a", 13), Counter(2, "b", 20), Counter(4, "a", 2)]
    assert compare(before, after) == [Usage("b", 1, 20, 20), Usage("a", 2, 5, 15)]


def owners(sample: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {owner["owner"]: owner for owner in sample["owners"]}


@pytest.mark.backends("server")
def test_it_shows_who_has_the_shared_fake_open(server: ServerProcess, device: str) -> None:
    with ExitStack() as stack:
        channel = stack.enter_context(EventChannel.open(device))
        port = channel.bind_unbound_port(DOMID_SELF)
        guest = stack.enter_context(EventChannel.open(server.name(3)))
        guest.bind_unbound_port(0)
        other = stack.enter_context(running("watch", "--virq", "argo", "--banner", device=device))
        assert other.line()
        top = stack.enter_context(running("top", "--json", device=device))
        first = json.loads(top.line())
        assert dt.datetime.fromisoformat(first["time"]).tzinfo is not None
        assert first["seconds"] >= 1
        # A script has its interpreter's name if the path of that has a space in it.
        me, its = process_name(), process_name(other.process.pid)
        assert owners(first) == {
            name: {"owner": name, "ports": ports, "events": 0, "total": 0}
            for name, ports in collections.Counter([me, its]).items()
        }
        near = channel.bind_interdomain(DOMID_SELF, port)
        assert channel.wait(TIMEOUT, unmask=near) == [near]
        for _ in range(5):
            channel.notify(near)
            assert channel.wait(TIMEOUT) == [port]
            channel.unmask(port)
        events = 0
        while events < 6:  # one more than were sent: a new connection starts with an event
            mine = owners(json.loads(top.line()))[me]
            events += mine["events"]
        assert mine["ports"] == 2 + (me == its)
        assert mine["total"] == events == 6
        assert top.interrupt() == (130, "", "")
        other.interrupt()


@pytest.mark.backends("server")
def test_once_is_one_table(server: ServerProcess) -> None:
    with EventChannel.open(server.name(6)) as channel:
        channel.bind_unbound_port(0)
        result = run("top", "--once", device=server.name(6))
    assert (result.returncode, result.stderr) == (0, "")
    title, head, row = result.stdout.splitlines()
    assert re.fullmatch(r"\S+  owners: 1  ports: 1  events/s: 0\.0", title)
    assert head.split() == ["OWNER", "PORTS", "EVENTS/S", "TOTAL"]
    assert row.split()[-3:] == ["1", "0.0", "0"]


@pytest.mark.backends("server")
def test_a_terminal_is_refreshed_until_ctrl_c(server: ServerProcess) -> None:
    with on_terminal("top", device=server.name()) as top:
        for _ in range(2):
            top.until("\x1b[H\x1b[J")
            assert "OWNER" in top.until("TOTAL")
        top.type("\x03")
        assert top.end().status == 130


@pytest.mark.backends("fake")
def test_a_fake_of_its_own_has_no_owners() -> None:
    result = run("top", "--once")
    assert (result.returncode, result.stdout) == (1, "")
    assert result.stderr == (
        "Error: a fake in this process has no other owners: name that of a server, fake:unix:PATH\n"
    )


@pytest.mark.backends("fake")
def test_it_warns_if_the_kernel_has_no_event_channel() -> None:
    if "evtchn:" in Path("/proc/interrupts").read_text():
        pytest.skip("needs a machine without event channels")
    result = run("top", "--once", "--json", device="")
    assert result.returncode == 0
    assert json.loads(result.stdout)["owners"] == []
    assert result.stderr.startswith("Warning: /proc/interrupts has no event channel")


@pytest.mark.backends("server")
def test_the_server_dies_under_it(own_server: ServerProcess) -> None:
    with running("top", device=own_server.name()) as top:
        assert top.line()
        own_server.process.kill()
        ended = top.end()
    assert ended.status == 1
    assert ended.errors.startswith(f"Error: {own_server.path}: ")


@pytest.mark.backends("real")
def test_it_shows_the_toolstacks_own_channels(
    device: str, unavailable: Callable[[str], NoReturn]
) -> None:
    with xenstored(unavailable):
        result = run("top", "--once", "--json", device=device)
    assert (result.returncode, result.stderr) == (0, "")
    # Dom0's own port, and VIRQ_DOM_EXC.
    assert owners(json.loads(result.stdout))["xenstored"]["ports"] == 2

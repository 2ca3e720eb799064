"""xenevtchn ports."""

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest

from pyxenevtchn import DOMID_SELF, EventChannel, Virq
from pyxenevtchn.holders import processes

from ..command import process_name, run, running
from ..fake.server.process import ServerProcess

FIELDS = ["port", "state", "vcpu", "remote_domid", "remote_port", "virq", "pirq"]
OF_A_FAKE = ["pending", "masked", "kernel", "daemon", "static"]


def listed(*arguments: str, device: str) -> dict[str, Any]:
    result = run("ports", "--json", *arguments, device=device)
    assert (result.returncode, result.stderr) == (0, "")
    table: dict[str, Any] = json.loads(result.stdout)
    assert list(table) == ["domid", "ports", "programs"]
    assert all(list(port) == [*FIELDS, *OF_A_FAKE, "virq_name"] for port in table["ports"])
    return table


def rows(*arguments: str, device: str) -> dict[str, list[str]]:
    """Return the rows of the table of ports: the other cells, by port."""
    result = run("ports", *arguments, device=device)
    assert (result.returncode, result.stderr) == (0, "")
    head, *lines = result.stdout.partition("\n\n")[0].splitlines()
    assert head.split()[:5] == ["PORT", "VCPU", "STATE", "REMOTE", "IRQ"]
    return {words[0]: words[1:] for words in map(str.split, lines)}


@pytest.mark.backends("server", "preload", "real")
def test_each_port_is_a_row(device: str) -> None:
    with EventChannel.open(device) as channel:
        waiting = channel.bind_unbound_port(999 if device.startswith("fake:") else DOMID_SELF)
        near = channel.bind_unbound_port(DOMID_SELF)
        far = channel.bind_interdomain(DOMID_SELF, near)
        virq = channel.bind_virq(Virq.ARGO)
        table = rows(device=device)
        domid = table[str(far)][2].partition(":")[0]
        assert table[str(near)][1:4] == ["interdomain", f"{domid}:{far}", "-"]
        assert table[str(far)][1:4] == ["interdomain", f"{domid}:{near}", "-"]
        assert table[str(waiting)][1] == "unbound"
        assert ":" not in table[str(waiting)][2]
        assert table[str(virq)][1:5] == ["virq", "-", "11", "ARGO"]
        # With preload, the device's path is a fake's: then that fake gives the table.
        found = {port["port"]: port for port in listed(device=device)["ports"]}
        assert found[virq]["virq_name"] == "ARGO"
        assert found[near]["remote_port"] == far


@pytest.mark.backends("fake")
def test_a_fake_in_this_process_has_a_dom0() -> None:
    table = listed(device="fake:")
    assert table["domid"] == 0
    assert table["programs"] == []
    assert {port["virq_name"] for port in table["ports"] if port["kernel"]} >= {"TIMER", "CONSOLE"}
    assert rows(device="fake:")["1"] == ["0", "virq", "-", "0", "TIMER", "kernel"]


@pytest.mark.backends("server")
def test_a_fake_knows_who_holds_what_and_what_is_pending(server: ServerProcess) -> None:
    with EventChannel.open(server.name()) as near, EventChannel.open(server.name(6)) as far:
        offered = near.bind_unbound_port(6)
        connected = far.bind_interdomain(0, offered)
        far.read()
        near.notify(offered)
        row = ["0", "interdomain", f"0:{offered}", "-", "pending,", "masked"]
        assert rows("6", device=server.name())[str(connected)] == row
        assert rows(device=server.name(6))[str(connected)] == row
        table = listed("6", device=server.name())
        assert table["domid"] == 6
        name = process_name()
        assert table["programs"] == [{"name": name, "ports": 1, "pids": []}]
        printed = run("ports", device=server.name(6)).stdout.splitlines()
        assert printed[-2:] == [
            "PROGRAM".ljust(max(7, len(name))) + "  PORTS  PIDS",
            f"{name.ljust(7)}  1",
        ]


@pytest.mark.backends("real")
def test_the_programs_that_have_the_device_open_are_listed(device: str) -> None:
    with running("watch", "--virq", "argo", "--banner", device=device) as other:
        assert other.line()
        table = listed(device=device)
        assert table["domid"] is None
        name = process_name(other.process.pid)
        (program,) = [each for each in table["programs"] if each["name"] == name]
        assert other.process.pid in program["pids"]
        assert program["ports"] >= 1
        assert len(table["ports"]) > program["ports"]
        assert listed("0", device=device)["programs"] is None


@pytest.mark.backends("fake")
@pytest.mark.parametrize("place", ["fake:", "server"])
def test_a_domain_that_is_not_there_is_one_line(place: str, server: ServerProcess) -> None:
    result = run("ports", "4000", device=server.name() if place == "server" else place)
    assert (result.returncode, result.stdout) == (1, "")
    assert result.stderr.startswith("Error: there is no domain 4000")
    assert result.stderr.count("\n") == 1


@pytest.mark.backends("fake")
def test_no_privcmd_is_one_line_and_a_hint() -> None:
    if Path("/dev/xen/privcmd").exists():
        pytest.skip("needs a machine without Xen")
    result = run("ports", device="/dev/xen/evtchn")
    assert (result.returncode, result.stdout) == (1, "")
    error, hint = result.stderr.splitlines()
    assert error == "Error: /dev/xen/privcmd: No such file or directory"
    assert hint.startswith("Hint: this machine does not run under Xen")


def test_the_processes_that_have_a_device_open_are_found() -> None:
    device = Path("/dev/full").stat().st_rdev
    with running(
        "-c", "exec 9</dev/full; echo; read end", program="/bin/sh", stdin=subprocess.PIPE
    ) as shell:
        shell.line()
        name = process_name(shell.process.pid)
        assert (shell.process.pid, name) in processes(device)
        assert shell.process.pid not in dict(processes(Path("/dev/zero").stat().st_rdev))

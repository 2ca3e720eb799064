"""xenevtchn fake: the commands, as processes."""

import os
import re
import subprocess
from pathlib import Path

import pytest

from pyxenevtchn import EventChannel, Virq

from ..command import COMMAND, run, shell
from .process import ServerProcess

TIMEOUT = 20.0


def test_ready_is_written_to_a_descriptor_that_is_closed_then(
    tmp_path: Path,
) -> None:
    ready, write_end = os.pipe()
    path = str(tmp_path / "socket")
    with subprocess.Popen(
        [COMMAND, "fake", "serve", "--socket", path, "--ready-fd", str(write_end)],
        pass_fds=[write_end],
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        os.close(write_end)
        with open(ready, "rb") as pipe:  # noqa: PTH123 - of a descriptor
            assert pipe.read() == b"\n"
        with EventChannel.open(f"fake:unix:{path}"):
            process.terminate()
            assert process.communicate(timeout=TIMEOUT)[0] == f"serving fake:unix:{path}\n"
    assert process.returncode == 0


@pytest.mark.parametrize("number", ["77", "3"])
def test_a_ready_descriptor_that_cannot_be_written_is_named(tmp_path: Path, number: str) -> None:
    command = f"xenevtchn fake serve --socket {tmp_path / 'socket'} --ready-fd {number}"
    result = shell(f"{command} 3</dev/null")
    assert (result.returncode, result.stdout) == (2, "")
    complaint = f"Invalid value for '--ready-fd': no descriptor {number} is open for writing"
    assert result.stderr.endswith(f"Error: {complaint}\n")


@pytest.mark.parametrize("path", ["", "a?domid=1"])
@pytest.mark.parametrize("command", ["serve", "ports"])
def test_a_socket_that_no_device_can_name_is_refused(path: str, command: str) -> None:
    result = run("fake", command, "--socket", path)
    assert (result.returncode, result.stdout) == (2, "")
    complaint = f"Invalid value for '--socket': {path!r} is no path of fake:unix:PATH"
    assert result.stderr.endswith(f"Error: {complaint}\n")


@pytest.mark.parametrize("named", ["option", "device", "environment"])
def test_a_virq_is_raised(server: ServerProcess, named: str) -> None:
    command = ["fake", "raise-virq", "con-ring"]
    if named == "option":
        command += ["--socket", str(server.path)]
    elif named == "device":
        command = ["--device", server.name(3), *command]
    with EventChannel.open(server.name()) as channel:
        port = channel.bind_virq(Virq.CON_RING)
        result = run(*command, device=server.name() if named == "environment" else "fake:")
        assert (result.returncode, result.stdout, result.stderr) == (0, "", "")
        assert channel.wait(0) == [port]


def test_a_virq_is_raised_in_a_domain(server: ServerProcess) -> None:
    with EventChannel.open(server.name()) as other, EventChannel.open(server.name(5)) as channel:
        port = channel.bind_virq(Virq.DEBUG)
        other.bind_virq(Virq.DEBUG)
        result = run("fake", "raise-virq", "1", "--domain", "5", device=server.name())
        assert (result.returncode, result.stderr) == (0, "")
        assert channel.wait(0) == [port]
        assert other.wait(0) == []


def test_ports_are_listed_as_lsevtchn_does(server: ServerProcess) -> None:
    with EventChannel.open(server.name()) as near, EventChannel.open(server.name(6)) as far:
        unbound = near.bind_unbound_port(9)
        offered = near.bind_unbound_port(6)
        connected = far.bind_interdomain(0, offered)
        virq = near.bind_virq(Virq.ARGO)
        lines = run("fake", "ports", device=server.name()).stdout.splitlines()
        assert f"{unbound:4}: VCPU 0: Interdomain (Waiting connection) - Remote Domain 9" in lines
        assert (
            f"{offered:4}: VCPU 0: Interdomain (Connected) - Remote Domain 6, Port {connected}"
            in lines
        )
        assert f"{virq:4}: VCPU 0: Virtual IRQ 11 (ARGO)" in lines
        assert lines[0] == "   1: VCPU 0: Virtual IRQ 0 (TIMER) [kernel]"
        assert any(re.fullmatch(r" +\d+: VCPU 0: IPI \[kernel\]", line) for line in lines)
        far.read()
        near.notify(offered)
        (line,) = [
            line
            for line in run("fake", "ports", "6", device=server.name()).stdout.splitlines()
            if f"Port {offered}" in line
        ]
        assert line.endswith("[pending, masked]")


def test_domains_come_and_go(server: ServerProcess) -> None:
    assert run("fake", "create-domain", "40", device=server.name()).stdout == "40\n"
    new = run("fake", "create-domain", device=server.name()).stdout.rstrip()
    assert new.isdecimal()
    for domid in ("40", new):
        assert server.xen.ports(int(domid))
        result = run("fake", "destroy-domain", domid, device=server.name())
        assert (result.returncode, result.stdout, result.stderr) == (0, "", "")
        with pytest.raises(ValueError, match=f"no domain {domid}"):
            server.xen.ports(int(domid))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["ports", "4000"], "there is no domain 4000"),
        (["destroy-domain", "0"], "dom0 cannot be destroyed"),
        (["destroy-domain", "4000"], "there is no domain 4000"),
        (["create-domain", "0"], "there is a domain 0 already"),
        (["raise-virq", "debug", "--domain", "4000"], "there is no domain 4000"),
    ],
)
def test_what_the_server_refuses_is_one_line(
    server: ServerProcess, arguments: list[str], message: str
) -> None:
    result = run("fake", *arguments, device=server.name())
    assert (result.returncode, result.stdout) == (1, "")
    assert re.fullmatch(f"Error: {message}.*\n", result.stderr)


@pytest.mark.parametrize(
    "command",
    [["ports"], ["raise-virq", "debug"], ["create-domain"], ["destroy-domain", "1"]],
    ids=lambda words: words[0],
)
def test_no_server_is_one_line(tmp_path: Path, command: list[str]) -> None:
    path = str(tmp_path / "socket")
    result = run("fake", *command, "--socket", path)
    assert (result.returncode, result.stdout) == (1, "")
    error, hint = result.stderr.splitlines()
    assert error == f"Error: {path}: No such file or directory"
    assert hint == f"Hint: is the server running? xenevtchn fake serve --socket {path}"


@pytest.mark.parametrize(
    "arguments",
    [
        ["ports"],
        ["serve"],
        ["raise-virq", "NONE", "--socket", "s"],
        ["raise-virq", "--socket", "s"],
        ["ports", "x", "--socket", "s"],
        ["ports", "32752", "--socket", "s"],
        ["destroy-domain", "--socket", "s"],
        ["serve", "--socket", "s", "--ready-fd", "-1"],
    ],
)
def test_wrong_usage_exits_with_2(arguments: list[str]) -> None:
    result = run("fake", *arguments, device="fake:")
    assert (result.returncode, result.stdout) == (2, "")
    assert "Usage: xenevtchn fake" in result.stderr

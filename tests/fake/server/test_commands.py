"""xenevtchn fake: the commands, as processes."""

import errno
import os
import re
import subprocess
from pathlib import Path

import pytest

from pyxenevtchn import EventChannel, Virq
from pyxenevtchn.fake import KernelBug
from pyxenevtchn.fake.model.configuration import Configuration

from ...command import COMMAND, run, shell
from ...limits import TIMEOUT
from .process import ServerProcess, serving


def test_ready_is_written_to_a_descriptor_which_is_then_closed(
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
    complaint = f"Invalid value for '--ready-fd': descriptor {number} is not open for writing"
    assert result.stderr.endswith(f"Error: {complaint}\n")


@pytest.mark.parametrize("path", ["", "a?domid=1"])
@pytest.mark.parametrize("command", ["serve", "check-clean"])
def test_a_socket_that_no_device_can_name_is_refused(path: str, command: str) -> None:
    result = run("fake", command, "--socket", path)
    assert (result.returncode, result.stdout) == (2, "")
    complaint = f"Invalid value for '--socket': {path!r} cannot be the path of fake:unix:PATH"
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


def test_domains_are_created_and_destroyed(own_server: ServerProcess) -> None:
    assert run("fake", "create-domain", "40", device=own_server.name()).stdout == "40\n"
    new = run("fake", "create-domain", device=own_server.name()).stdout.rstrip()
    assert new.isdecimal()
    for domid in ("40", new):
        assert own_server.xen.ports(int(domid))
        result = run("fake", "destroy-domain", domid, device=own_server.name())
        assert (result.returncode, result.stdout, result.stderr) == (0, "", "")
        with pytest.raises(ValueError, match=f"no domain {domid}"):
            own_server.xen.ports(int(domid))


def test_events_are_delivered_by_hand(tmp_path: Path) -> None:
    with serving(tmp_path / "xen", "--delivery", "manual", "--abi", "2l") as server:
        server.xen.create_domain(5)
        server.xen.deliver()
        with EventChannel.open(server.name()) as channel, EventChannel.open(server.name(5)) as far:
            ports = [channel.bind_virq(virq) for virq in (Virq.ARGO, Virq.CON_RING)]
            far.bind_virq(Virq.ARGO)
            for domid, virq in ((0, Virq.ARGO), (0, Virq.CON_RING), (5, Virq.ARGO)):
                server.xen.raise_virq(virq, domid)
            for arguments, count in ((["5"], 1), (["-n", "1"], 1), (["--storm"], 1)):
                result = run("fake", "deliver", *arguments, device=server.name())
                assert (result.stdout, result.stderr) == (f"{count}\n", "")
            assert channel.wait(0) == ports
            channel.unmask(ports)
            server.xen.raise_virq(Virq.CON_RING)
            assert run("fake", "deliver", device=server.name()).stdout == "1\n"


def test_the_options_configure_the_server(tmp_path: Path) -> None:
    options = ["--xen", "4.21", "--linux", "6.12", "--machine", "pvh", "--abi", "2l"]
    options += ["--delivery", "shuffled", "--seed", "7", "--xsm", "silo"]
    with serving(tmp_path / "xen", *options) as server:
        assert server.xen.configuration() == Configuration(
            (4, 21), (6, 12), "pvh", "2l", "shuffled", "silo", 7
        )
        with EventChannel.open(server.name(5)) as channel:
            with pytest.raises(OSError, match=os.strerror(errno.EBUSY)):
                channel.bind_virq(Virq.CON_RING)
            with pytest.raises(ProcessLookupError):
                channel.bind_unbound_port(99)


def test_the_seed_of_shuffled_events_is_printed(tmp_path: Path) -> None:
    with serving(tmp_path / "xen", "--delivery", "shuffled") as server:
        assert re.fullmatch(r"seed \d+", server.running.error_line())


def test_a_virqs_handler_is_set(own_server: ServerProcess) -> None:
    with EventChannel.open(own_server.name(5)) as channel:
        port = channel.bind_virq(Virq.DOM_EXC)
        result = run("fake", "set-virq-handler", "dom-exc", "5", device=own_server.name())
        assert (result.returncode, result.stderr) == (0, "")
        run("fake", "raise-virq", "dom-exc", device=own_server.name())
        assert channel.wait(0) == [port]


def test_the_number_of_ports_of_a_domain_can_be_set(own_server: ServerProcess) -> None:
    result = run("fake", "create-domain", "50", "--max-ports", "9", device=own_server.name())
    assert result.stdout == "50\n"
    with EventChannel.open(own_server.name(50)) as channel:
        while channel.bind_unbound_port(0) < 9:
            pass
        with pytest.raises(OSError, match="No space left"):
            channel.bind_unbound_port(0)
    own_server.xen.destroy_domain(50)


def test_static_ports_are_connected(tmp_path: Path) -> None:
    with serving(tmp_path / "xen", "--linux", "6.6") as server:
        server.xen.create_domain(5)
        result = run("fake", "connect-static", "0:100", "5:50", device=server.name())
        assert (result.returncode, result.stdout, result.stderr) == (0, "", "")
        lines = run("ports", device=server.name()).stdout.splitlines()
        assert lines[-1].split() == ["100", "0", "interdomain", "5:50", "-", "static,", "masked"]
        assert any(line.split()[3:] == ["5:1", "-", "xenstored"] for line in lines)
        result = run("fake", "connect-static", "0:100", "5:51", device=server.name())
        assert (result.returncode, result.stdout) == (1, "")
        assert result.stderr == f"Error: {server.path}: {os.strerror(errno.EBUSY)}\n"


def test_calls_are_made_to_fail(server: ServerProcess) -> None:
    for error in ("ENOSPC", str(errno.ENOSPC)):
        result = run("fake", "fail-next", "bind_virq", error, device=server.name())
        assert (result.returncode, result.stderr) == (0, "")
        with EventChannel.open(server.name()) as channel:
            with pytest.raises(OSError, match="bind_virq") as caught:
                channel.bind_virq(Virq.DEBUG)
            assert caught.value.errno == errno.ENOSPC


def test_check_clean_names_what_is_left(server: ServerProcess) -> None:
    assert run("fake", "check-clean", device=server.name()).returncode == 0
    with EventChannel.open(server.name()) as channel:
        port = channel.bind_virq(Virq.DEBUG)
        result = run("fake", "check-clean", device=server.name())
        assert (result.returncode, result.stdout) == (1, "")
        assert re.fullmatch(
            rf"Error: left behind in domain 0: a handle of .*, with port {port}\n", result.stderr
        )


def control(server: ServerProcess, *arguments: str) -> str:
    """Run a command that must succeed; return its output."""
    result = run("fake", *arguments, device=server.name())
    assert (result.returncode, result.stderr) == (0, "")
    return result.stdout


def test_a_domain_is_paused_and_checkpointed(server: ServerProcess) -> None:
    with EventChannel.open(server.name(60)) as channel:
        port = channel.bind_virq(Virq.DEBUG)
        control(server, "pause-domain", "60")
        server.xen.raise_virq(Virq.DEBUG, 60)
        assert channel.wait(0) == []
        control(server, "unpause-domain", "60")
        assert channel.wait(0) == [port]
        control(server, "checkpoint-domain", "60")
        channel.unmask(port)
        server.xen.raise_virq(Virq.DEBUG, 60)
        assert channel.wait(0) == [port]
    server.xen.destroy_domain(60)


@pytest.mark.parametrize("how", ["shutdown", "crash"])
def test_a_domain_ends_by_itself(server: ServerProcess, how: str) -> None:
    with EventChannel.open(server.name(61)) as channel:
        control(server, f"{how}-domain", "61")
        with pytest.raises(OSError, match="No such device"):
            channel.bind_virq(Virq.DEBUG)
    with pytest.raises(ValueError, match="no domain 61"):
        server.xen.ports(61)


def test_a_crashed_domain_is_preserved(own_server: ServerProcess) -> None:
    own_server.xen.create_domain(62)
    control(own_server, "crash-domain", "62", "--preserve")
    assert own_server.xen.ports(62)
    control(own_server, "destroy-domain", "62")


def test_a_restored_domains_handle_is_a_kernel_bug_for_its_client_and_the_server(
    tmp_path: Path,
) -> None:
    with serving(tmp_path / "xen") as server:
        channel = EventChannel.open(server.name(5))
        port = channel.bind_unbound_port(0)
        control(server, "save-domain", "5")
        with pytest.raises(ValueError, match="domain 5 is saved"):
            channel.read()
        assert control(server, "restore-domain", "5") == "6\n"
        with pytest.raises(KernelBug, match=rf"BUG_ON\(irq < 0\) .*: port {port} "):
            channel.unbind(port)
        with pytest.raises(KernelBug, match="BUG_ON"):
            channel.close()
        for _ in range(2):
            assert server.running.error_line().startswith("kernel bug: BUG_ON(irq < 0) in ")
        result = run("fake", "restore-domain", "5", device=server.name())
        assert (result.returncode, result.stderr) == (1, "Error: no domain 5 was saved\n")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["destroy-domain", "0"], "dom0 cannot be destroyed"),
        (["destroy-domain", "4000"], "there is no domain 4000"),
        (["create-domain", "0"], "domain 0 exists already"),
        (["raise-virq", "debug", "--domain", "4000"], "there is no domain 4000"),
        (["deliver", "4000"], "there is no domain 4000"),
        (["pause-domain", "0"], "dom0 cannot be paused"),
        (["crash-domain", "4000"], "there is no domain 4000"),
        (["create-domain", "--max-ports", "3"], "max_ports is less than the kernel itself needs"),
        (["set-virq-handler", "timer", "0"], ".*: Invalid argument"),
    ],
)
def test_a_refusal_of_the_server_is_a_one_line_error(
    server: ServerProcess, arguments: list[str], message: str
) -> None:
    result = run("fake", *arguments, device=server.name())
    assert (result.returncode, result.stdout) == (1, "")
    assert re.fullmatch(f"Error: {message}.*\n", result.stderr)


@pytest.mark.parametrize(
    "command",
    [
        *(["raise-virq", "debug"], ["create-domain"], ["destroy-domain", "1"]),
        *(["deliver"], ["set-virq-handler", "3", "1"], ["connect-static", "0:50", "1:50"]),
        *(["fail-next", "read", "EIO"], ["check-clean"], ["save-domain", "1"]),
        *(["restore-domain", "1"], ["pause-domain", "1"], ["unpause-domain", "1"]),
        *(["checkpoint-domain", "1"], ["shutdown-domain", "1"], ["crash-domain", "1"]),
    ],
    ids=lambda words: words[0],
)
def test_a_missing_server_is_an_error_with_a_hint(tmp_path: Path, command: list[str]) -> None:
    path = str(tmp_path / "socket")
    result = run("fake", *command, "--socket", path)
    assert (result.returncode, result.stdout) == (1, "")
    error, hint = result.stderr.splitlines()
    assert error == f"Error: {path}: No such file or directory"
    assert hint == f"Hint: is the server running? xenevtchn fake serve --socket {path}"


@pytest.mark.parametrize(
    "arguments",
    [
        ["serve"],
        ["raise-virq", "NONE", "--socket", "s"],
        ["raise-virq", "--socket", "s"],
        ["pause-domain", "x", "--socket", "s"],
        ["pause-domain", "32752", "--socket", "s"],
        ["destroy-domain", "--socket", "s"],
        ["serve", "--socket", "s", "--ready-fd", "-1"],
        ["serve", "--socket", "s", "--xen", "4"],
        ["serve", "--socket", "s", "--abi", "3l"],
        ["serve", "--socket", "s", "--seed", "-1"],
        ["deliver", "--most", "-1", "--socket", "s"],
        ["connect-static", "0:1", "1", "--socket", "s"],
        ["fail-next", "read", "EWHAT", "--socket", "s"],
        ["fail-next", "poll", "EIO", "--socket", "s"],
    ],
)
def test_wrong_usage_exits_with_2(arguments: list[str]) -> None:
    result = run("fake", *arguments, device="fake:")
    assert (result.returncode, result.stdout) == (2, "")
    assert "Usage: xenevtchn fake" in result.stderr

"""xenevtchn notify."""

from pathlib import Path

import pytest

from pyxenevtchn import DOMID_SELF, EventChannel, Virq
from pyxenevtchn.fake import KernelBug

from ..command import run, running
from ..fake.server.process import serving
from ..limits import TIMEOUT

pytestmark = pytest.mark.backends("server")


@pytest.mark.backends("server", "preload", "real")
def test_it_reaches_a_watch_in_another_process(device: str) -> None:
    # Both run in domain 0.
    with running("watch", "--unbound", "0", "--banner", "-n", "1", device=device) as watch:
        port = watch.line().split()[1]
        result = run("notify", f"0:{port}", device=device)
        assert (result.returncode, result.stdout, result.stderr) == (0, "", "")
        ended = watch.end()
    assert (ended.status, ended.errors) == (0, "")
    assert ended.output.endswith(f" {port} unbound:0\n")


def test_several_events_come_one_by_one_and_the_port_is_released(device: str) -> None:
    with EventChannel.open(device) as channel:
        port = channel.bind_unbound_port(DOMID_SELF)
        for _ in range(2):
            with running("notify", f"self:{port}", "-n", "3", "-i", "0.01", device=device) as sends:
                assert channel.wait(TIMEOUT) == [port]
                channel.unmask(port)
                assert sends.end() == (0, "", "")
            channel.unmask(channel.wait(0))


def test_a_static_port_is_notified(tmp_path: Path) -> None:
    with serving(tmp_path / "xen", "--linux", "6.12") as server:
        server.xen.create_domain(5)
        server.xen.connect_static(0, 100, 5, 50)
        with EventChannel.open(server.name(5)) as channel:
            channel.bind_static(50)
            assert channel.wait(0) == [50]
            channel.unmask(50)
            result = run("notify", "--static", "100", device=server.name())
            assert (result.returncode, result.stdout, result.stderr) == (0, "", "")
            assert channel.wait(0) == [50]


def test_a_port_that_is_in_use_is_refused_with_a_hint(device: str) -> None:
    with EventChannel.open(device) as channel:
        near = channel.bind_unbound_port(DOMID_SELF)
        far = channel.bind_interdomain(DOMID_SELF, near)
        virq = channel.bind_virq(Virq.ARGO)
        for port in (near, far, virq):
            result = run("notify", f"self:{port}", device=device)
            assert (result.returncode, result.stdout) == (1, "")
            error, *hints = result.stderr.splitlines()
            assert error.endswith(f"remote_port={port}): Invalid argument")
            assert "notify it from the program that holds the peer" in hints[-1]


def test_a_static_port_of_another_program_is_a_kernel_bug(tmp_path: Path) -> None:
    with serving(tmp_path / "xen", "--linux", "6.12") as server:
        channel = EventChannel.open(server.name())
        port = channel.bind_unbound_port(DOMID_SELF)
        # The kernel allows it, but the first of the two to release the port takes it from both.
        assert run("notify", "--static", str(port), device=server.name()).returncode == 0
        with pytest.raises(KernelBug, match=f"port {port}"):
            channel.close()
        result = run("notify", "--static", "1", device=server.name())
        assert (result.returncode, result.stdout) == (1, "")
        assert result.stderr.startswith("Error: kernel bug: bind_evtchn_to_irqhandler_chip: port 1")


def test_a_kernel_without_static_ports_says_so(device: str) -> None:
    result = run("notify", "--static", "100", device=device)
    assert (result.returncode, result.stdout) == (1, "")
    assert "static ports need Linux 6.6 or newer" in result.stderr


def test_a_port_without_a_domain_is_refused_with_a_hint() -> None:
    result = run("notify", "24")
    assert (result.returncode, result.stdout) == (2, "")
    assert "has no domain: name DOM:PORT" in result.stderr
    assert "use it in that program" in result.stderr


def test_a_domain_that_is_not_there(device: str) -> None:
    result = run("notify", "4000:1", device=device)
    assert (result.returncode, result.stdout) == (1, "")
    assert "No such process" in result.stderr


@pytest.mark.backends("fake")
@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["self:1", "--static", "1"],
        ["self:x"],
        ["self:-1"],
        ["32753:1"],
        ["1:2:3"],
        ["self:" + "9" * 5000],
        ["self:1", "-n", "0"],
        ["self:1", "-n", "x"],
        ["self:1", "-i", "-1"],
        ["self:1", "-i", "1e30"],
        ["--static", "4294967296"],
    ],
    ids=lambda words: " ".join(words)[:30],
)
def test_wrong_usage_is_status_2(arguments: list[str]) -> None:
    result = run("notify", *arguments)
    assert (result.returncode, result.stdout) == (2, "")
    assert result.stderr.startswith("Usage: xenevtchn notify [OPTIONS] [DOM:PORT]\n")


def test_a_static_port_of_a_real_device_needs_the_users_confirmation() -> None:
    # Without it no device is opened, so any device will do here.
    result = run("notify", "--static", "500", device="/dev/null")
    assert (result.returncode, result.stdout) == (2, "")
    assert "--yes-this-port-is-mine" in result.stderr

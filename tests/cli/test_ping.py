"""xenevtchn ping, alone and with a pong."""

import re
from collections.abc import Iterator

import pytest

from pyxenevtchn import DOMID_SELF, EventChannel

from ..command import Running, run, running
from ..fake.server.process import ServerProcess

both_processes = pytest.mark.backends("server", "preload", "real")


@pytest.fixture
def pong(device: str) -> Iterator[tuple[Running, str]]:
    """A pong for this domain, and its address for ping."""
    with running("pong", "self", device=device) as process:
        found = re.fullmatch(r"PONG (.*): port (\d+) for domain self", process.line())
        assert found
        assert found[1] == device
        yield process, f"self:{found[2]}"


def ping(*arguments: str, count: int, route: str, device: str) -> int:
    """Run ping and check its output; return how many answers came.

    A slow machine may lose some, but not all.
    """
    result = run("ping", *arguments, "-c", str(count), "-i", "0", device=device)
    first, *trips, title, counts, times = result.stdout.splitlines()
    assert re.fullmatch(rf"PING {re.escape(device)}: {route}", first)
    assert len(trips) == count
    returned = 0
    for number, trip in enumerate(trips, 1):
        if trip != f"seq={number} no answer within 2 s":
            assert re.fullmatch(rf"seq={number} time=[\d.]+ ms", trip)
            returned += 1
    assert title == f"--- {device} ping statistics ---"
    assert counts == f"{count} sent, {returned} returned, {count - returned} lost"
    figures = re.fullmatch(
        r"round trip min/median/p99/max = ([\d.]+)/([\d.]+)/([\d.]+)/([\d.]+) ms", times
    )
    assert figures
    assert [float(figure) for figure in figures.groups()] == sorted(map(float, figures.groups()))
    assert (result.returncode, result.stderr) == (returned < count, "")
    return returned


def test_ping_shows_round_trips_and_their_statistics(device: str) -> None:
    assert ping(count=5, route=r"port \d+ <-> port \d+", device=device)


@pytest.mark.backends("fake")
def test_ping_ends_with_ctrl_c_and_its_statistics() -> None:
    with running("ping", "-i", "30") as ping:
        assert ping.line().startswith("PING")
        assert ping.line().startswith("seq=1")
        ended = ping.interrupt()
    assert (ended.status, ended.errors) == (130, "")
    assert "1 sent, 1 returned, 0 lost" in ended.output


@both_processes
def test_pong_answers_one_ping_after_the_other(device: str, pong: tuple[Running, str]) -> None:
    process, address = pong
    route = rf"port \d+ <-> port {address.partition(':')[2]} of domain self"
    returned = sum(ping(address, count=3, route=route, device=device) for _ in range(2))
    ended = process.interrupt()
    assert (ended.status, ended.errors) == (130, "")
    answered = re.fullmatch(r"(\d+) answered\n", ended.output)
    assert answered
    assert returned <= int(answered[1]) <= 6


@pytest.mark.backends("server")
def test_pong_answers_another_domain(server: ServerProcess) -> None:
    with running("pong", "7", device=server.name()) as pong:
        first = pong.line()
        assert first.endswith("for domain 7")
        port = re.findall(r"port (\d+)", first)[0]
        route = rf"port \d+ <-> port {port} of domain 0"
        assert ping(f"0:{port}", count=3, route=route, device=server.name(7))
        assert run("ping", f"0:{port}", "-c", "1", device=server.name(8)).returncode == 1
        pong.interrupt()


@pytest.mark.backends("server")
def test_a_ping_without_an_answer_is_lost(server: ServerProcess) -> None:
    with EventChannel.open(server.name()) as silent:
        port = silent.bind_unbound_port(DOMID_SELF)
        result = run("ping", f"self:{port}", "-c", "1", device=server.name())
    assert (result.returncode, result.stderr) == (1, "")
    lines = result.stdout.splitlines()
    assert lines[1] == "seq=1 no answer within 2 s"
    assert lines[-1] == "1 sent, 0 returned, 1 lost"


@pytest.mark.backends("server")
def test_a_second_ping_of_one_pong_is_refused_with_a_hint(
    device: str, pong: tuple[Running, str]
) -> None:
    _, address = pong
    with running("ping", address, "-i", "60", device=device) as first:
        assert first.line().startswith("PING")
        result = run("ping", address, "-c", "1", device=device)
        assert (result.returncode, result.stdout) == (1, "")
        error, hint = result.stderr.splitlines()
        assert error.endswith("Invalid argument")
        assert "it is already connected" in hint
        first.interrupt()

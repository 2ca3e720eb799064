"""xenevtchn watch: each source and each option."""

import datetime as dt
import errno
import json
import re
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NoReturn

import pytest

from pyxenevtchn import DOMID_SELF, EventChannel, Virq

from ..command import Running, run, running
from ..fake.server.process import ServerProcess, serving
from ..toolstack import press_debug_key

pytestmark = pytest.mark.backends("server")


@pytest.fixture
def peer(device: str) -> Iterator[EventChannel]:
    """A handle for the other ends of the watched ports."""
    with EventChannel.open(device) as channel:
        yield channel


def connect(peer: EventChannel, watch: Running) -> tuple[int, str]:
    """Read the banner of an unbound port and connect to it; return our port and that port."""
    found = re.fullmatch(r"port (\d+) is unbound:(self|\d+)", watch.line())
    assert found
    return peer.bind_interdomain(DOMID_SELF, int(found[1])), found[1]


@pytest.mark.backends("server", "preload", "real")
def test_each_event_is_a_line_that_is_written_at_once(device: str, peer: EventChannel) -> None:
    with running("watch", "--unbound", "self", "--banner", device=device) as watch:
        ours, port = connect(peer, watch)
        for _ in range(3):
            peer.notify(ours)
            stamp, *rest = watch.line().split(" ")
            assert rest == [port, "unbound:self"]
            assert dt.datetime.fromisoformat(stamp).tzinfo
        ended = watch.interrupt()
    assert ended == (130, "", "")


@pytest.mark.backends("server", "preload", "real")
def test_json_is_an_object_on_each_line(device: str, peer: EventChannel) -> None:
    offered = peer.bind_unbound_port(DOMID_SELF)
    command = ["watch", "--json", "--banner", "--count", "2", "--monotonic"]
    sources = ["--virq", "argo", "--interdomain", f"self:{offered}"]
    with running(*command, *sources, device=device) as watch:
        virq, remote = json.loads(watch.line()), json.loads(watch.line())
        assert virq == {"type": "bound", "port": virq["port"], "source": "virq:ARGO"}
        source = f"interdomain:self:{offered}"
        assert remote == {"type": "bound", "port": remote["port"], "source": source}
        expected = {"type": "event", "port": remote["port"], "source": source}
        # The event that a connection starts with.
        first = json.loads(watch.line())
        assert first == {**expected, "time": first["time"]}
        before = time.monotonic()
        peer.notify(offered)
        event = json.loads(watch.line())
        assert before <= event["time"] <= time.monotonic()
        assert event == {**expected, "time": event["time"]}
        assert watch.end() == (0, "", "")


def test_every_kind_of_source_is_on_one_handle(tmp_path: Path) -> None:
    with (
        serving(tmp_path / "xen", "--linux", "6.12") as server,
        EventChannel.open(server.name(5)) as guest,
    ):
        offered = guest.bind_unbound_port(0)
        sources = ["--virq", "CON_RING", "--virq", "3", "--interdomain", f"5:{offered}"]
        sources += ["--unbound", "5", "--static", "500"]
        options = ["--banner", "--count", "5", "--format", "{source}"]
        with running("watch", *sources, *options, device=server.name()) as watch:
            names = ["virq:CON_RING", "virq:DOM_EXC", f"interdomain:5:{offered}", "unbound:5"]
            lines = [watch.line() for _ in range(5)]
            ports = [int(re.findall(r"port (\d+) is", line)[0]) for line in lines]
            assert [line.partition(" is ")[2] for line in lines] == [*names, "static:500"]
            assert ports[4] == 500
            # The event that a connection starts with.
            assert watch.line() == names[2]
            server.xen.raise_virq(Virq.CON_RING)
            assert watch.line() == names[0]
            server.xen.raise_virq(Virq.DOM_EXC)
            assert watch.line() == names[1]
            guest.notify(offered)
            assert watch.line() == names[2]
            guest.notify(guest.bind_interdomain(0, ports[3]))
            assert watch.line() == names[3]
            assert watch.end() == (0, "", "")


def test_a_format_pads_and_aligns(device: str, peer: EventChannel) -> None:
    template = "<{port:>6}|{source:<14}|{{}}>"
    options = ["--unbound", "self", "--banner", "-n1", "--format", template]
    with running("watch", *options, device=device) as watch:
        ours, port = connect(peer, watch)
        peer.notify(ours)
        assert watch.line() == f"<{port:>6}|unbound:self  |{{}}>"


@pytest.mark.parametrize(
    ("option", "pattern"),
    [
        ("--localtime", r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}\+05:00"),
        ("--utc", r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}\+00:00"),
        ("--monotonic", r"\d+\.\d+"),
    ],
)
def test_the_time_is_that_of_the_chosen_clock(
    device: str, peer: EventChannel, option: str, pattern: str
) -> None:
    options = [option, "--unbound", "self", "--banner", "-n1", "--format", "{time}"]
    with running("watch", *options, device=device, more={"TZ": "XYZ-5"}) as watch:
        ours, _ = connect(peer, watch)
        peer.notify(ours)
        assert re.fullmatch(pattern, watch.line())


def test_the_count_ends_it_in_the_middle_of_a_burst(device: str, peer: EventChannel) -> None:
    sources = ["--unbound", "self"] * 3
    with running("watch", *sources, "--banner", "-n", "2", device=device) as watch:
        ports = [connect(peer, watch)[0] for _ in range(3)]
        peer.notify_many(ports)
        ended = watch.end()
    assert (ended.status, ended.errors) == (0, "")
    assert len(ended.output.splitlines()) == 2


@pytest.mark.backends("fake", "server")
def test_time_out_before_the_count_is_status_3(device: str) -> None:
    result = run("watch", "--unbound", "self", "-n", "1", "-t", "0.01", device=device)
    assert (result.returncode, result.stdout, result.stderr) == (3, "", "")


@pytest.mark.parametrize("option", ["--timeout", "--idle-timeout"])
def test_time_out_without_a_count_is_success(device: str, option: str) -> None:
    result = run("watch", "--virq", "argo", option, "0.01", device=device)
    assert (result.returncode, result.stdout, result.stderr) == (0, "", "")


def test_an_idle_timeout_before_the_count_is_status_3(device: str) -> None:
    result = run("watch", "--virq", "argo", "--idle-timeout", "0.01", "-n", "1", device=device)
    assert (result.returncode, result.stdout, result.stderr) == (3, "", "")


def test_a_rate_sums_up_each_second(device: str, peer: EventChannel) -> None:
    options = ["--rate", "--json", "--banner", "--unbound", "self", "--virq", "argo", "-n", "2"]
    with running("watch", *options, device=device) as watch:
        bound = [json.loads(watch.line()) for _ in range(2)]
        names = [(line["port"], line["source"]) for line in bound]
        assert [source for _, source in names] == ["virq:ARGO", "unbound:self"]
        rates = [json.loads(watch.line()) for _ in range(2)]
        assert [(line["port"], line["source"]) for line in rates] == names
        for line in rates:
            assert (line["type"], line["events"]) == ("rate", 0)
            assert line["seconds"] >= 1
            assert dt.datetime.fromisoformat(line["time"]).tzinfo is not None
        ours = peer.bind_interdomain(DOMID_SELF, names[1][0])
        peer.notify(ours)
        counts = [0]
        while counts[-1] == 0:
            assert json.loads(watch.line())["events"] == 0
            counts.append(json.loads(watch.line())["events"])
        assert counts[-1] == 1
        peer.notify(ours)
        last = [json.loads(line) for line in watch.end().output.splitlines()[-2:]]
    assert [(line["source"], line["events"]) for line in last] == [
        ("virq:ARGO", 0),
        ("unbound:self", 1),
    ]


def test_a_rate_is_a_line_of_text_too(device: str, peer: EventChannel) -> None:
    options = ["--rate", "--banner", "--unbound", "self", "-n", "1"]
    with running("watch", *options, device=device) as watch:
        ours, port = connect(peer, watch)
        peer.notify(ours)
        *_, last = watch.end().output.splitlines()
    assert re.fullmatch(rf"\S+ {port} unbound:self \d+\.\d/s", last)


def test_a_command_runs_for_each_event(device: str, peer: EventChannel) -> None:
    command = 'echo "$XENEVTCHN_PORT from $XENEVTCHN_SOURCE"'
    options = ["--exec", command, "--banner", "--unbound", "self", "-n", "2", "--format", "event"]
    with running("watch", *options, device=device) as watch:
        ours, port = connect(peer, watch)
        for _ in range(2):
            peer.notify(ours)
            assert watch.line() == "event"
            assert watch.line() == f"{port} from unbound:self"
        assert watch.end() == (0, "", "")


@pytest.mark.parametrize(
    ("command", "what"),
    [
        ("exit 7", "exited with status 7"),
        ("kill -KILL $$", "was killed by signal 9"),
        ("/no/such/command", "exited with status 127"),
    ],
)
def test_a_command_that_fails_is_reported_and_the_watch_goes_on(
    device: str, peer: EventChannel, command: str, what: str
) -> None:
    options = ["--exec", command, "--banner", "--unbound", "self", "-n", "2", "--format", "event"]
    with running("watch", *options, device=device) as watch:
        ours, port = connect(peer, watch)
        peer.notify(ours)
        assert watch.line() == "event"
        peer.notify(ours)
        ended = watch.end()
    assert (ended.status, ended.output) == (0, "event\n")
    warnings = [line for line in ended.errors.splitlines() if line.startswith("Warning: ")]
    assert warnings == [f"Warning: {command!r}, for unbound:self on port {port}, {what}"] * 2


@pytest.mark.backends("server", "preload", "real")
def test_a_restricted_handle_keeps_its_ports(device: str, peer: EventChannel) -> None:
    options = ["--restrict", "9", "--banner", "--unbound", "self", "-n", "1"]
    with running("watch", *options, device=device) as watch:
        ours, port = connect(peer, watch)
        peer.notify(ours)
        ended = watch.end()
    assert (ended.status, ended.errors) == (0, "")
    assert ended.output.endswith(f" {port} unbound:self\n")


def test_a_handle_cannot_be_restricted_to_dom0(device: str) -> None:
    result = run("watch", "--restrict", "0", "--unbound", "self", device=device)
    assert (result.returncode, result.stdout) == (1, "")
    assert "restrict_domid(domid=0): Invalid argument" in result.stderr


def test_a_bind_that_fails_is_one_line_and_a_hint(device: str, peer: EventChannel) -> None:
    peer.bind_virq(Virq.CON_RING)
    result = run("watch", "--virq", "con-ring", "--banner", device=device)
    assert (result.returncode, result.stdout) == (1, "")
    error, hint, *_ = result.stderr.splitlines()
    assert error == f"Error: {device}: bind_virq(virq=CON_RING): File exists"
    assert re.match("Hint: a VIRQ can be bound once in a domain[;:] .*CON_RING", hint)


def test_an_overflow_is_reported_and_the_watch_goes_on(
    server: ServerProcess, peer: EventChannel
) -> None:
    options = ["--unbound", "self", "--banner", "-n", "1", "--format", "event"]
    with running("watch", *options, device=server.name()) as watch:
        ours, port = connect(peer, watch)
        server.xen.fail_next(0, "read", errno.EFBIG)
        peer.notify(ours)
        lost = "the ring overflowed and events were lost; any of these ports may have lost some:"
        assert watch.error_line() == f"Warning: {lost} {port}"
        peer.notify(ours)
        assert watch.end() == (0, "event\n", "")


def test_the_server_dies_under_a_watch(own_server: ServerProcess) -> None:
    with running("watch", "--virq", "argo", "--banner", device=own_server.name()) as watch:
        assert watch.line().endswith("is virq:ARGO")
        own_server.process.kill()
        ended = watch.end()
    assert (ended.status, ended.output) == (1, "")
    error, hint = ended.errors.splitlines()
    assert error.startswith(f"Error: {own_server.name()}: ")
    assert error.endswith("Connection reset by peer")
    assert hint == "Hint: the server of this fake has ended"


def test_a_domain_that_is_destroyed_ends_its_watch(own_server: ServerProcess) -> None:
    with running("watch", "--virq", "argo", "--banner", device=own_server.name(4)) as watch:
        assert watch.line().endswith("is virq:ARGO")
        own_server.xen.destroy_domain(4)
        ended = watch.end()
    assert (ended.status, ended.output) == (1, "")
    assert ended.errors.endswith("No such device\nHint: this domain of the fake no longer exists\n")


@pytest.mark.backends("real")
def test_the_console_ring_is_seen(device: str, unavailable: Callable[[str], NoReturn]) -> None:
    options = ["--virq", "CON_RING", "--banner", "--format", "{source}"]
    with running("watch", *options, device=device) as watch:
        assert watch.line().endswith(" is virq:CON_RING")
        for _ in range(2):
            press_debug_key(unavailable)
            assert watch.line() == "virq:CON_RING"
        assert watch.interrupt().status == 130


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["--banner"],
        ["--virq", "nope"],
        ["--virq", ""],
        ["--virq", "4294967296"],
        ["--unbound", "32753"],
        ["--unbound", "-1"],
        ["--unbound", "me"],
        ["--interdomain", "5"],
        ["--interdomain", "self:"],
        ["--interdomain", ":5"],
        ["--interdomain", "self:4294967296"],
        ["--static", "0"],
        ["--virq", "argo", "-n", "0"],
        ["--virq", "argo", "-t", "-1"],
        ["--virq", "argo", "-t", "nan"],
        ["--virq", "argo", "-t", "inf"],
        ["--virq", "argo", "--format", "{"],
        ["--virq", "argo", "--format", "{nope}"],
        ["--virq", "argo", "--format", "{}"],
        ["--virq", "argo", "--format", "{port.real}"],
        ["--virq", "argo", "--format", "{port:>99999999999999999999}"],
        ["--virq", "argo", "--format", "{port:{nope}}"],
        ["--virq", "argo", "--format", "{port!z}"],
        ["--virq", "argo", "--format", "x", "--json"],
        ["--virq", "argo", "--format", "x", "--rate"],
    ],
    ids=" ".join,
)
@pytest.mark.backends("fake")
def test_wrong_usage_is_status_2(arguments: list[str]) -> None:
    result = run("watch", *arguments)
    assert (result.returncode, result.stdout) == (2, "")
    assert result.stderr.startswith("Usage: xenevtchn watch [OPTIONS]\n")
    assert "Traceback" not in result.stderr


def test_a_static_port_of_a_real_device_needs_the_users_confirmation() -> None:
    # Without it no device is opened, so any device will do here.
    result = run("watch", "--static", "500", device="/dev/null")
    assert (result.returncode, result.stdout) == (2, "")
    assert "--yes-this-port-is-mine" in result.stderr

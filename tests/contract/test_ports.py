"""The domain's port table, as Xen reports it, and how a handle uses it."""

import re
from collections.abc import Callable
from contextlib import closing
from typing import NoReturn

import pytest

from pyxenevtchn import DOMID_SELF, Binding, EventChannel, Virq
from pyxenevtchn.fake import Port, State
from pyxenevtchn.holders import describe_virq
from pyxenevtchn.opening import adopt_device
from pyxenevtchn.privcmd import port_table

from ..command import running_python
from ..here import Here
from ..toolstack import list_ports
from .conftest import OpenChannel, OpenDevice
from .events import Pair

# A real device's table comes from privcmd, which the preloaded fake does not have.
WITH_TABLE = pytest.mark.backends("fake", "server", "real")
# Linux lets only dom0 read the table.
IN_DOM0 = pytest.mark.only("dom0")

NO_SUCH_DOMAIN = 999


def ports(channel: EventChannel) -> dict[int, Port]:
    """Return the port table of the handle's domain, by port."""
    return {port.port: port for port in adopt_device(channel.fileno()).port_table()}


@WITH_TABLE
@IN_DOM0
def test_the_table_has_what_was_bound_and_how(pair: Pair, here: Here) -> None:
    virq = pair.near.bind_virq(Virq.ARGO)
    waiting = pair.near.bind_unbound_port(DOMID_SELF)
    closed = pair.near.bind_unbound_port(DOMID_SELF)
    pair.near.unbind(closed)
    table = ports(pair.near)
    assert list(table) == sorted(table)
    found = table[pair.near_port]
    assert (found.state, found.remote_domid) == (State.INTERDOMAIN, here.domid)
    assert (found.remote_port, found.virq) == (pair.far_port, None)
    assert table[pair.far_port].remote_port == pair.near_port
    assert (table[waiting].state, table[waiting].remote_domid) == (State.UNBOUND, here.domid)
    assert table[waiting].remote_port is None
    assert (table[virq].state, table[virq].virq) == (State.VIRQ, Virq.ARGO)
    assert closed not in table


@WITH_TABLE
@IN_DOM0
def test_the_table_has_what_the_kernel_holds(channel: EventChannel, here: Here) -> None:
    table = ports(channel).values()
    assert here.held <= {port.virq for port in table if port.kernel is not False}


@WITH_TABLE
@IN_DOM0
def test_the_table_has_thousands_of_ports(channel: EventChannel) -> None:
    bound = {channel.bind_unbound_port(DOMID_SELF) for _ in range(900)}
    assert bound <= ports(channel).keys()


@pytest.mark.backends("real")
@IN_DOM0
def test_own_ports_are_those_of_the_own_domid(channel: EventChannel, here: Here) -> None:
    channel.bind_virq(Virq.ARGO)
    assert {port.port for port in port_table(here.domid)} == ports(channel).keys()
    with pytest.raises(ProcessLookupError) as caught:
        port_table(NO_SUCH_DOMAIN)
    assert "xl list" in caught.value.__notes__[0]


@pytest.mark.backends("real")
@pytest.mark.only("lsevtchn")
def test_the_toolstack_lists_the_same(pair: Pair, unavailable: Callable[[str], NoReturn]) -> None:
    pair.near.bind_virq(Virq.ARGO)
    words = {
        State.INTERDOMAIN: "Interdomain (Connected)",
        State.UNBOUND: "Interdomain (Waiting connection)",
        State.VIRQ: "Virtual IRQ",
        State.PIRQ: "Physical IRQ",
        State.IPI: "IPI",
    }
    listed = {
        int(match[1]): (int(match[2]), match[3])
        for line in list_ports(unavailable).splitlines()
        if (match := re.match(r" *(\d+): VCPU (\d+): (.*)", line))
    }
    table = {number: port for number, port in ports(pair.near).items() if port.state in words}
    assert listed.keys() == table.keys()
    for number, port in table.items():
        vcpu, text = listed[number]
        assert vcpu == port.vcpu
        assert text.startswith(words[port.state])
        told = (port.remote_domid, port.remote_port, port.virq, port.pirq)
        assert set(map(int, re.findall(r"\d+", text))) == {n for n in told if n is not None}


def test_a_handle_is_not_stale_whatever_its_peers_do(open_channel: OpenChannel, here: Here) -> None:
    near, far = open_channel(), open_channel()
    offered = [near.bind_unbound_port(domid) for domid in (DOMID_SELF, here.domid)]
    near.bind_virq(Virq.ARGO)
    assert not near.check_stale()
    for port in offered:
        near.bind_interdomain(DOMID_SELF, near.bind_unbound_port(DOMID_SELF))
        far.bind_interdomain(DOMID_SELF, port)
    assert not near.check_stale()
    assert not far.check_stale()
    far.close()
    assert not near.check_stale()


def test_a_port_that_is_closed_is_lost(channel: EventChannel) -> None:
    kept, closed = (channel.bind_unbound_port(DOMID_SELF) for _ in range(2))
    channel.unbind(closed)
    binding = channel.bindings[kept]
    assert_stale(channel, {kept: binding, closed: binding})


def assert_stale(channel: EventChannel, bindings: dict[int, Binding]) -> None:
    """Check that a handle that is given these wrong bindings is found to be stale."""
    other = EventChannel.from_fd(channel.fileno(), closefd=False, bindings=bindings)
    assert other.check_stale()
    assert other.stale
    with pytest.warns(RuntimeWarning, match="is stale"):
        other.close()
    assert not channel.check_stale()


@pytest.mark.backends("preload")
def test_without_privcmd_the_holder_of_a_virq_is_not_known(channel: EventChannel) -> None:
    port = channel.bind_virq(Virq.ARGO)
    with pytest.raises(FileNotFoundError) as caught:
        ports(channel)
    assert caught.value.filename == "/dev/xen/privcmd"
    assert caught.value.__notes__
    with pytest.raises(FileExistsError) as taken:
        channel.bind_virq(Virq.ARGO)
    assert "Or this domain was restored" in taken.value.__notes__[0]
    assert list(channel.bindings) == [port]


BINDER = """
import sys
from pyxenevtchn import EventChannel, Virq

with EventChannel.open(sys.argv[1]) as channel:
    print(channel.bind_virq(Virq.ARGO), flush=True)
    sys.stdin.read()
"""


@pytest.mark.backends("server", "real")
@IN_DOM0
def test_the_processes_that_may_have_a_virq_are_known(
    channel: EventChannel, device: str, here: Here
) -> None:
    with running_python(BINDER, device) as process:
        port = int(process.line())
        text = holder(channel, Virq.ARGO)
        assert text.startswith(f"ARGO is bound to port {port}, and its holder is ")
        if device.startswith("fake:"):
            assert text.endswith("another handle")
        else:
            assert f"({process.process.pid})" in text
        for virq in here.held:
            assert "its holder is the kernel itself" in holder(channel, virq)
        process.close_input()
        assert process.end() == (0, "", "")


def holder(channel: EventChannel, virq: int) -> str:
    table = adopt_device(channel.fileno()).port_table()
    return describe_virq(virq, table, channel.fileno()) or ""


@WITH_TABLE
@IN_DOM0
def test_a_device_gives_the_table_without_a_handle(open_device: OpenDevice) -> None:
    with closing(open_device()) as device:
        assert len(device.port_table()) > 0

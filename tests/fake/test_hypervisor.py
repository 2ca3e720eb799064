"""A fake machine: its domains, the ports of its kernels, its port tables."""

import errno

import pytest

from pyxenevtchn import DOMID_SELF, Request, Virq
from pyxenevtchn.abi import Machine
from pyxenevtchn.fake import Domain, Hypervisor, State
from pyxenevtchn.fake.model.configuration import Abi

from .helpers import connect, refused


def test_two_domains_talk_to_each_other() -> None:
    xen = Hypervisor()
    guest = xen.create_domain()
    with xen.dom0.open() as backend, guest.open() as frontend:
        near, far = connect(backend, 0, frontend, guest.domid)
        frontend.unmask(frontend.read())
        backend.notify(near)
        assert frontend.wait(0) == [far]
        frontend.notify(far)
        assert backend.wait(0) == [near]
    xen.check_clean()


def test_each_domain_has_ports_of_its_own() -> None:
    xen = Hypervisor()
    first, second = xen.create_domain(), xen.create_domain()
    with first.open() as one, first.open() as neighbour, second.open() as stranger:
        assert one.bind_virq(Virq.DEBUG) == stranger.bind_virq(Virq.DEBUG)
        with pytest.raises(FileExistsError):
            neighbour.bind_virq(Virq.DEBUG)


@pytest.mark.parametrize(
    ("machine", "abi", "dom0", "guest", "first_free"),
    [
        ("pv", "fifo", {"TIMER", "PCPU_STATE", "ARCH_0", "CONSOLE"}, {"TIMER"}, (21, 8)),
        (
            "pv",
            "2l",
            {"TIMER", "DEBUG", "PCPU_STATE", "ARCH_0", "CONSOLE"},
            {"TIMER", "DEBUG"},
            (23, 9),
        ),
        ("pvh", "fifo", {"TIMER", "PCPU_STATE", "CONSOLE"}, {"TIMER"}, (15, 7)),
        ("arm64", "2l", {"CONSOLE"}, set(), (4, 3)),
    ],
)
def test_the_kernels_hold_the_ports_of_such_a_machine(
    machine: Machine, abi: Abi, dom0: set[str], guest: set[str], first_free: tuple[int, int]
) -> None:
    xen = Hypervisor(machine=machine, abi=abi)
    with xen.dom0.open() as channel:
        assert channel.bind_unbound_port(0) == first_free[0]
    domain = xen.create_domain()
    with domain.open() as channel:
        assert channel.bind_unbound_port(0) == first_free[1]
        for virq in Virq:
            if virq.name in guest:
                with pytest.raises(FileExistsError):
                    channel.bind_virq(virq)
            else:
                channel.bind_virq(virq)
    for domid, virqs in ((0, dom0), (domain.domid, guest)):
        held = {Virq(port.virq).name for port in xen.ports(domid) if port.virq is not None}
        assert held == virqs


def test_dom0s_daemons_hold_an_end_of_each_domain() -> None:
    xen = Hypervisor()
    guest = xen.create_domain()
    theirs = {port.daemon: port for port in xen.ports(0) if port.remote_domid == guest.domid}
    assert set(theirs) == {"xenstored", "xenconsoled"}
    for daemon, number in (("xenstored", 1), ("xenconsoled", 2)):
        assert theirs[daemon].remote_port == number
        assert not theirs[daemon].kernel
    with xen.dom0.open() as channel:
        for number in (1, 2):
            with refused(errno.EINVAL):
                channel.bind_interdomain(guest.domid, number)
    before = len(xen.ports(0))
    guest.destroy()
    assert len(xen.ports(0)) == before - 2
    xen.check_clean()


def test_a_guest_has_1023_ports_unless_it_is_created_with_others() -> None:
    xen = Hypervisor()
    for domain, most in ((xen.create_domain(), 1023), (xen.create_domain(max_ports=20), 20)):
        with domain.open() as channel:
            while channel.bind_unbound_port(0) < most:
                pass
            with refused(errno.ENOSPC) as caught:
                channel.bind_unbound_port(0)
            assert "max_event_channels" in caught.value.__notes__[0]
    with pytest.raises(ValueError, match="max_ports is less than the kernel itself needs"):
        xen.create_domain(domid=77, max_ports=6)
    assert xen.create_domain(domid=77, max_ports=7).domid == 77


def test_the_port_table_shows_what_lsevtchn_shows() -> None:
    xen = Hypervisor()
    guest = xen.create_domain(7)
    with xen.dom0.open() as backend, guest.open() as frontend:
        near, far = connect(backend, 0, frontend, 7)
        unbound = frontend.bind_unbound_port(DOMID_SELF)
        virq = frontend.bind_virq(Virq.ARGO)
        table = {port.port: port for port in xen.ports(7) if not port.kernel}
        assert set(table) == {far, unbound, virq}
        connected = table[far]
        assert (connected.state, connected.remote_domid, connected.remote_port) == (
            State.INTERDOMAIN,
            0,
            near,
        )
        assert (connected.pending, connected.masked) == (False, True)
        assert not any(port.static for port in table.values())
        assert (table[unbound].state, table[unbound].remote_domid) == (State.UNBOUND, 7)
        assert (table[virq].state, table[virq].virq) == (State.VIRQ, Virq.ARGO)
        backend.notify(near)
        assert next(port for port in xen.ports(7) if port.port == far).pending
    with pytest.raises(LookupError, match="no domain 9: the domids are 0, 7"):
        xen.ports(9)


@pytest.mark.parametrize("abi", ["fifo", "2l"])
def test_a_handle_can_bind_every_port_that_the_abi_has(abi: str) -> None:
    xen = Hypervisor(abi="2l" if abi == "2l" else "fifo")
    limit = 4096 if abi == "2l" else 131072
    device = xen.dom0.device()
    for _ in range(limit - 1 - len(xen.ports(0))):
        highest = device.ioctl(Request.BIND_UNBOUND_PORT, 0)
    assert highest == limit - 1
    with refused(errno.ENOSPC):
        device.ioctl(Request.BIND_UNBOUND_PORT, 0)
    device.close()
    xen.check_clean()


def test_check_clean_names_what_is_left_behind() -> None:
    xen = Hypervisor()
    guest = xen.create_domain()
    xen.check_clean()
    with guest.open() as channel:
        port = channel.bind_unbound_port(0)
        with pytest.raises(AssertionError) as caught:
            xen.check_clean()
        assert str(caught.value) == (
            f"left behind in domain 1: a handle with fd [{channel.fileno()}], port {port} (unbound)"
        )
    xen.check_clean()


def test_hypervisors_share_nothing() -> None:
    one, other = Hypervisor(), Hypervisor()
    with one.dom0.open() as channel, other.dom0.open() as stranger:
        assert channel.bind_virq(Virq.DEBUG) == stranger.bind_virq(Virq.DEBUG)
        one.raise_virq(Virq.DEBUG)
        assert stranger.wait(0) == []
    domain: Domain = other.create_domain()
    with pytest.raises(ValueError, match="a domain of this hypervisor"):
        one.raise_virq(Virq.DEBUG, domain)


def test_arguments_with_unknown_values_are_refused() -> None:
    with pytest.raises(ValueError, match="abi must be fifo or 2l, not '3l'"):
        Hypervisor(abi="3l")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="immediate, manual or shuffled, not 'late'"):
        Hypervisor(delivery="late")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="xsm must be dummy or silo or an Xsm, not 'flask'"):
        Hypervisor(xsm="flask")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="machine must be pv, pvh or arm64, not 'hvm'"):
        Hypervisor(machine="hvm")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"linux must be 5.11 or newer, not 5\.10"):
        Hypervisor(linux=(5, 10))

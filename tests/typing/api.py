"""The public API as type checkers see it: nothing here runs."""

import select
from array import array
from collections.abc import Generator, Mapping
from contextlib import aclosing
from pathlib import Path
from typing import Literal, assert_type

import pyxenevtchn
from pyxenevtchn import (
    DOMID_COW,
    DOMID_FIRST_RESERVED,
    DOMID_IDLE,
    DOMID_INVALID,
    DOMID_IO,
    DOMID_SELF,
    DOMID_XEN,
    AsyncEventChannel,
    AsyncResumes,
    Binding,
    ChannelClosed,
    Device,
    EventChannel,
    PartialNotify,
    Request,
    Resumes,
    RingOverflow,
    StaleHandle,
    Virq,
    VirqScope,
)
from pyxenevtchn.fake import (
    Domain,
    FakeDevice,
    Hypervisor,
    KernelBug,
    Port,
    State,
    Xsm,
    default,
    open_named,
    reset_default,
)
from pyxenevtchn.fake.model.configuration import Configuration
from pyxenevtchn.fake.model.driver import OpenFile
from pyxenevtchn.fake.server.remote import RemoteHypervisor
from pyxenevtchn.pytest_plugin import ConnectedDomains, ProgramEnvironment


class Quiet(EventChannel):
    """A subclass: open() returns an instance of it."""


def constants() -> None:
    domids: list[int] = [DOMID_COW, DOMID_FIRST_RESERVED, DOMID_IDLE, DOMID_INVALID, DOMID_IO]
    domids += [DOMID_SELF, DOMID_XEN]
    assert_type(Virq.parse("CON_RING"), Virq)
    assert_type(Virq.parse(8), Virq)
    assert_type(Virq.CON_RING.scope, VirqScope)
    assert_type(Request.NOTIFY.parameters, tuple[str, ...])
    number: int = Virq.DOM_EXC
    word: str = Request.RESET
    print(number, word)
    assert_type(pyxenevtchn.__version__, str)


def opening(device: Device) -> None:
    assert_type(EventChannel.open(), EventChannel)
    assert_type(EventChannel.open("fake:", nonblocking=False, cloexec=False), EventChannel)
    assert_type(EventChannel.open(Path("/dev/xen/evtchn")), EventChannel)
    assert_type(EventChannel.open(device), EventChannel)
    assert_type(EventChannel(device), EventChannel)
    assert_type(Quiet.open(), Quiet)
    with Quiet.open() as channel:
        assert_type(channel, Quiet)
        assert_type(channel.fileno(), int)
        assert_type(channel.name, str)
        assert_type(channel.closed, bool)
        assert_type(channel.bindings, Mapping[int, Binding])
        assert_type(Quiet.from_fd(3, closefd=False, bindings=channel.bindings), Quiet)
        channel.close()
    poll = select.poll()
    poll.register(channel, select.POLLIN)


def binding(channel: EventChannel) -> None:
    assert_type(channel.bind_virq(Virq.CON_RING), int)
    assert_type(channel.bind_virq(8), int)
    assert_type(channel.bind_unbound_port(DOMID_SELF), int)
    assert_type(channel.bind_interdomain(0, 5), int)
    channel.bind_static(5)
    channel.unbind(5)
    channel.reset()
    channel.restrict_domid(1)
    bound = channel.bindings[5]
    assert_type(bound.request, Request)
    assert_type(bound.virq, int | None)
    assert_type(bound.remote_domain, int | None)
    assert_type(bound.remote_port, int | None)


def events(channel: EventChannel) -> None:
    channel.notify(5)
    for ports in ([5, 6], (5,), {5}, range(5, 7), array("I", [5]), memoryview(b"").cast("I")):
        assert_type(channel.notify_many(ports), int)
        assert_type(channel.unmask(ports), int)
    assert_type(channel.unmask(5), int)
    assert_type(channel.read(), list[int])
    assert_type(channel.read(64), list[int])
    assert_type(channel.read_into(array("I", [0] * 64)), int)
    assert_type(channel.read_into(memoryview(bytearray(4096)).cast("I")), int)
    assert_type(channel.poll(0.5), int)
    assert_type(channel.wait(), list[int])
    assert_type(channel.wait(0.5, unmask=5), list[int])
    assert_type(channel.wait(unmask=channel.wait(0)), list[int])
    assert_type(channel.events(timeout=1, on_overflow=print), Generator[int, None, None])
    for port in channel.events():
        assert_type(port, int)
    assert_type(channel.recover(), frozenset[int])
    assert_type(channel.domain_exists(7), bool)
    assert_type(channel.stale, bool)
    assert_type(channel.check_stale(), bool)
    assert_type(channel.mark_stale(), None)


def failing(channel: EventChannel) -> None:
    try:
        channel.notify_many([5])
    except PartialNotify as error:
        assert_type(error.port, int)
        assert_type(error.sent, int)
    except (RingOverflow, StaleHandle) as error:
        driver: OSError = error
        print(driver)
    except ChannelClosed as error:
        closed: ValueError = error
        print(closed)


async def waiting(handle: EventChannel) -> None:
    async with AsyncEventChannel(handle, on_overflow=print) as channel:
        assert_type(channel, AsyncEventChannel)
        assert_type(channel.channel, EventChannel)
        assert_type(channel.closed, bool)
        assert_type(channel.bind_virq(Virq.ARGO), int)
        assert_type(channel.bind_unbound_port(0), int)
        assert_type(channel.bind_interdomain(0, 5), int)
        channel.bind_static(5)
        channel.unbind(5)
        channel.notify(5)
        assert_type(channel.notify_many([5]), int)
        assert_type(channel.check_stale(), bool)
        assert_type(channel.unmask(5), int)
        assert_type(await channel.read(), list[int])
        await channel.wait(5)
        async for port in channel.events():
            assert_type(port, int)
        async for port in channel.port_events(5):
            assert_type(port, int)
        async with aclosing(channel.events()) as events:
            assert_type(await anext(events), int)
        async with aclosing(channel.port_events(5)) as port_events:
            assert_type(await anext(port_events), int)
        channel.close()


async def resuming(domain: Domain) -> None:
    assert_type(domain.resumes(), Resumes)
    with Resumes() as resumes:
        assert_type(resumes, Resumes)
        assert_type(resumes.fileno(), int)
        assert_type(resumes.wait(), bool)
        assert_type(resumes.wait(0.5), bool)
        assert_type(resumes.closed, bool)
        resumes.close()
    async with AsyncResumes(Resumes()) as waiting:
        assert_type(waiting, AsyncResumes)
        assert_type(waiting.resumes, Resumes)
        assert_type(waiting.closed, bool)
        await waiting.wait()
        waiting.close()


def devices(device: Device, fake: FakeDevice) -> None:
    same: Device = fake
    print(same)
    assert_type(device.name, str)
    assert_type(device.blocking, bool)
    assert_type(device.fileno(), int)
    assert_type(device.ioctl(Request.BIND_VIRQ, 8), int)
    assert_type(device.port_table(), tuple[Port, ...])
    assert_type(device.reopen(), Device | OSError)
    device.close()
    assert_type(fake.read(4096), bytes)
    assert_type(fake.write(memoryview(b"")), int)


class NobodyButDom0(Xsm):
    def evtchn_unbound(self, domid: int, remote_domid: int, *, exists: bool) -> None:
        if not exists:
            raise KernelBug
        super().evtchn_unbound(domid, remote_domid, exists=exists)

    def evtchn_interdomain(self, domid: int, remote_domid: int) -> None:
        super().evtchn_interdomain(domid, remote_domid)


def playing_xen() -> None:
    xen = Hypervisor(
        xen_version=(4, 21),
        linux=(6, 12),
        machine="arm64",
        abi="2l",
        delivery="manual",
        xsm=NobodyButDom0(),
        seed=1,
    )
    assert_type(xen.configuration, Configuration)
    assert_type(default(), Hypervisor)
    reset_default()
    reset_default(xen)
    assert_type(xen.dom0, Domain)
    assert_type(xen.create_domain(), Domain)
    assert_type(xen.domain(0), Domain)
    assert_type(xen.create_domain(max_ports=9, static={8: (xen.dom0, 10)}), Domain)
    xen.connect_static(xen.dom0, 50, xen.domain(1), 60)
    xen.raise_virq(Virq.DOM_EXC, xen.dom0)
    assert_type(xen.named_domain(3), Domain)
    xen.set_virq_handler(Virq.DOM_EXC, xen.dom0)
    assert_type(xen.deliver(), int)
    assert_type(xen.deliver(xen.dom0, most=3, storm=True), int)
    xen.check_clean()
    assert_type(xen.dom0.domid, int)
    assert_type(xen.dom0.open(nonblocking=False), EventChannel)
    assert_type(xen.dom0.device(cloexec=False), FakeDevice)
    assert_type(xen.dom0.open_file(print), OpenFile)
    xen.dom0.fail_next(Request.NOTIFY, 5)
    xen.dom0.fail_next("read", 5)
    xen.dom0.pause()
    xen.dom0.unpause()
    xen.dom0.checkpoint()
    xen.dom0.save()
    assert_type(xen.saved_domain(1), Domain)
    xen.dom0.restore()
    xen.dom0.shutdown()
    xen.dom0.crash(preserve=True)
    xen.dom0.destroy()
    assert_type(open_named("fake:", nonblocking=True, cloexec=True), FakeDevice)
    for port in xen.ports(0):
        assert_type(port, Port)
        assert_type(port.port, int)
        assert_type(port.state, State)
        assert_type(port.remote_domid, int | None)
        assert_type(port.remote_port, int | None)
        assert_type(port.virq, int | None)
        assert_type(port.vcpu, int)
        assert_type(port.pirq, int | None)
        assert_type(port.pending or port.masked or port.kernel or port.static, bool | None)
        assert_type(port.daemon, str | None)


def playing_xen_with_a_server() -> None:
    operation: Literal["read", "write"] = "write"
    remote = RemoteHypervisor("/run/xen")
    assert_type(remote.configuration(), Configuration)
    assert_type(remote.create_domain(3, max_ports=9), int)
    remote.connect_static(0, 50, 3, 60)
    remote.pause_domain(3)
    remote.unpause_domain(3)
    remote.checkpoint_domain(3)
    remote.save_domain(3)
    assert_type(remote.restore_domain(3), int)
    remote.shutdown_domain(4)
    remote.crash_domain(4, preserve=True)
    remote.set_virq_handler(Virq.DOM_EXC, 3)
    assert_type(remote.deliver(3, most=1), int)
    assert_type(remote.ports(3), tuple[Port, ...])
    remote.raise_virq(Virq.DOM_EXC, 0)
    remote.fail_next(3, operation, 5)
    remote.destroy_domain(3)
    remote.check_clean()


def in_pytest(domains: ConnectedDomains) -> None:
    assert_type(domains.backend, EventChannel)
    assert_type(domains.backend_port, int)
    assert_type(domains.frontend, EventChannel)
    assert_type(domains.frontend_port, int)


def programs_in_pytest(environment: ProgramEnvironment) -> None:
    assert_type(environment["LD_PRELOAD"], str)
    assert_type(environment.domain(1), ProgramEnvironment)
    assert_type(environment.device(1), str)
    assert_type(environment.hypervisor, RemoteHypervisor)

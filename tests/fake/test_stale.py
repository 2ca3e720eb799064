"""Handles that have lost their ports, because their domain was restored: what the library does."""

import asyncio
import errno
import gc
import os
from collections.abc import Callable
from contextlib import closing

import pytest

from pyxenevtchn import DOMID_SELF, AsyncEventChannel, EventChannel, StaleHandle, Virq
from pyxenevtchn.fake import Domain, Hypervisor

from ..command import running_python
from ..concurrency import threads, until_asleep
from .server.process import ServerProcess


def restore(guest: Domain) -> None:
    guest.save()
    guest.restore()


def close_with_a_warning(channel: EventChannel) -> None:
    with pytest.warns(RuntimeWarning, match="its descriptor stays open: open a new handle"):
        channel.close()


@pytest.mark.parametrize(
    "bind",
    [
        lambda channel, _near: channel.bind_unbound_port(0),
        lambda channel, near: channel.bind_interdomain(0, near),
    ],
)
def test_a_bind_that_gets_a_stale_number_raises_stale_handle(
    xen: Hypervisor, guest: Domain, bind: Callable[[EventChannel, int], int]
) -> None:
    channel = guest.open()
    channel.bind_unbound_port(0)
    restore(guest)
    with xen.dom0.open() as backend:
        near = backend.bind_unbound_port(guest.domid)
        with pytest.raises(StaleHandle, match=r"bind_.*File exists") as caught:
            bind(channel, near)
    assert caught.value.errno == errno.EEXIST
    assert "open a new handle" in caught.value.__notes__[0]
    assert channel.stale
    close_with_a_warning(channel)
    xen.check_clean()


def test_a_virq_that_is_bound_already_does_not_make_a_handle_stale(guest: Domain) -> None:
    with guest.open() as channel:
        channel.bind_virq(Virq.DEBUG)
        with pytest.raises(FileExistsError) as caught:
            channel.bind_virq(Virq.DEBUG)
        assert not isinstance(caught.value, StaleHandle)
        assert "xenevtchn bind-virq says who" in caught.value.__notes__[0]
        assert not channel.stale


def test_a_failed_bind_of_a_virq_looks_at_the_ports_in_xen(xen: Hypervisor, guest: Domain) -> None:
    channel = guest.open()
    for _ in range(2):
        channel.bind_unbound_port(0)
    restore(guest)
    with guest.open() as other:
        # This gets the number of the first port.
        other.bind_virq(Virq.DEBUG)
        with pytest.raises(StaleHandle, match=r"bind_virq\(virq=DEBUG\): File exists") as caught:
            channel.bind_virq(Virq.DEBUG)
    assert "open a new handle" in caught.value.__notes__[0]
    assert channel.stale
    close_with_a_warning(channel)
    xen.check_clean()


@pytest.mark.parametrize(
    "bind",
    [
        lambda channel: channel.bind_unbound_port(0),
        lambda channel: channel.bind_unbound_port(DOMID_SELF),
        lambda channel: channel.bind_virq(Virq.DEBUG),
    ],
)
def test_check_stale_finds_a_stale_handle(
    xen: Hypervisor, guest: Domain, bind: Callable[[EventChannel], int]
) -> None:
    channel = guest.open()
    port = bind(channel)
    assert not channel.check_stale()
    guest.checkpoint()
    assert not channel.check_stale()
    restore(guest)
    assert channel.check_stale()
    assert channel.check_stale()
    assert channel.stale
    assert list(channel.bindings) == [port]
    close_with_a_warning(channel)
    xen.check_clean()


def test_check_stale_finds_nothing_while_others_have_all_the_numbers(guest: Domain) -> None:
    channel = guest.open()
    channel.bind_virq(Virq.DEBUG)
    restore(guest)
    with guest.open() as other:
        other.bind_virq(Virq.DEBUG)
        assert not channel.check_stale()
    assert channel.check_stale()
    close_with_a_warning(channel)


def test_a_handle_without_ports_is_never_found_stale(guest: Domain) -> None:
    with guest.open() as channel:
        restore(guest)
        assert not channel.check_stale()


def test_a_check_stale_that_fails_leaves_the_handle_as_it_was(guest: Domain) -> None:
    with guest.open() as channel:
        channel.bind_unbound_port(0)
        guest.destroy()
        with pytest.raises(OSError, match="No such device") as caught:
            channel.check_stale()
        assert caught.value.errno == errno.ENODEV
        assert not channel.stale


def test_check_stale_wakes_waiting_tasks(guest: Domain) -> None:
    async def main() -> None:
        events = AsyncEventChannel(guest.open())
        port = events.bind_unbound_port(0)
        task = asyncio.create_task(events.wait(port))
        await asyncio.sleep(0)
        assert not events.check_stale()
        restore(guest)
        assert events.check_stale()
        with pytest.raises(StaleHandle):
            await task
        close_with_a_warning(events.channel)

    asyncio.run(main())


def test_check_stale_works_with_a_server(server: ServerProcess) -> None:
    domid = server.xen.create_domain()
    channel = EventChannel.open(server.name(domid))
    channel.bind_unbound_port(0)
    assert not channel.check_stale()
    server.xen.save_domain(domid)
    domid = server.xen.restore_domain(domid)
    assert channel.check_stale()
    close_with_a_warning(channel)
    server.xen.destroy_domain(domid)


@pytest.mark.parametrize(
    "call",
    [
        lambda channel, port: channel.unbind(port),
        lambda channel, port: channel.notify(port),
        lambda channel, port: channel.notify_many([port]),
        lambda channel, port: channel.unmask(port),
        lambda channel, port: channel.unmask([port, port]),
        lambda channel, _port: channel.bind_unbound_port(0),
        lambda channel, _port: channel.bind_static(4000),
        lambda channel, _port: channel.domain_exists(0),
        lambda channel, _port: channel.read(),
        lambda channel, _port: channel.wait(0),
        lambda channel, _port: channel.poll(0),
        lambda channel, _port: channel.reset(),
        lambda channel, _port: list(channel.events(0)),
    ],
)
def test_a_stale_handle_refuses(
    xen: Hypervisor, guest: Domain, call: Callable[[EventChannel, int], object]
) -> None:
    channel = guest.open()
    port = channel.bind_unbound_port(0)
    restore(guest)
    channel.mark_stale()
    with pytest.raises(StaleHandle, match="this domain was restored") as caught:
        call(channel, port)
    assert caught.value.errno == errno.EEXIST
    assert "open a new handle" in caught.value.__notes__[0]
    assert repr(channel).endswith("ports=1 stale>")
    assert list(channel.bindings) == [port]
    close_with_a_warning(channel)
    assert repr(channel).endswith("closed stale>")
    xen.check_clean()


def leave_by_with(channels: list[EventChannel]) -> None:
    with channels[0]:
        pass


@pytest.mark.parametrize(
    "let_go",
    [
        pytest.param(lambda channels: channels[0].close(), id="close"),
        pytest.param(leave_by_with, id="with"),
        pytest.param(list.clear, id="collector"),
    ],
)
def test_the_descriptor_of_a_stale_handle_stays_open(
    xen: Hypervisor, guest: Domain, let_go: Callable[[list[EventChannel]], None]
) -> None:
    channels = [guest.open()]
    channels[0].bind_unbound_port(0)
    number = channels[0].fileno()
    restore(guest)
    channels[0].mark_stale()
    with pytest.warns(RuntimeWarning, match="is stale"):
        let_go(channels)
    channels.clear()
    gc.collect()
    assert os.fstat(number)
    xen.check_clean()


def test_a_stale_handle_is_closed_once(guest: Domain) -> None:
    channel = guest.open()
    channel.bind_unbound_port(0)
    restore(guest)
    channel.mark_stale()
    close_with_a_warning(channel)
    channel.close()
    with pytest.raises(ValueError, match="the handle is closed"):
        channel.read()


def test_a_handle_without_ports_is_not_stale(xen: Hypervisor, guest: Domain) -> None:
    with guest.open() as channel:
        channel.unbind(channel.bind_unbound_port(0))
        restore(guest)
        channel.mark_stale()
        assert not channel.stale
        assert channel.bind_unbound_port(0)
    channel.mark_stale()
    xen.check_clean()


def test_a_new_handle_takes_the_place_of_a_stale_one(xen: Hypervisor, guest: Domain) -> None:
    old = guest.open()
    port = old.bind_virq(Virq.DEBUG)
    restore(guest)
    old.mark_stale()
    with guest.open() as channel:
        for binding in old.bindings.values():
            assert binding.virq is not None
            assert channel.bind_virq(binding.virq) == port
        close_with_a_warning(old)
        xen.raise_virq(Virq.DEBUG, guest)
        assert channel.wait(0) == [port]
    xen.check_clean()


def test_mark_stale_wakes_waiters(guest: Domain) -> None:
    channel = guest.open()
    channel.bind_unbound_port(0)

    def wait() -> None:
        with pytest.raises(StaleHandle):
            channel.wait()

    def poll() -> None:
        with pytest.raises(StaleHandle):
            channel.poll()

    def events() -> None:
        with pytest.raises(StaleHandle):
            next(channel.events())

    with threads(wait, poll, events) as started:
        for thread in started:
            until_asleep(thread)
        restore(guest)
        channel.mark_stale()
    close_with_a_warning(channel)


def test_mark_stale_wakes_waiting_tasks(guest: Domain) -> None:
    async def main() -> None:
        channel = guest.open()
        port = channel.bind_unbound_port(0)
        events = AsyncEventChannel(channel)
        tasks = [asyncio.create_task(events.wait(port)), asyncio.create_task(events.read())]
        await asyncio.sleep(0)
        restore(guest)
        asyncio.get_running_loop().call_soon(channel.mark_stale)
        for task in tasks:
            with pytest.raises(StaleHandle):
                await task
        with pytest.warns(RuntimeWarning, match="is stale"):
            events.close()

    asyncio.run(main())


def test_leaving_a_loop_over_a_stale_handle_raises_nothing(xen: Hypervisor, guest: Domain) -> None:
    channel = guest.open()
    channel.bind_virq(Virq.DEBUG)
    xen.raise_virq(Virq.DEBUG, guest)
    with closing(channel.events()) as events:
        next(events)
        restore(guest)
        channel.mark_stale()
    close_with_a_warning(channel)


def test_domain_exists_asks_xen(xen: Hypervisor, guest: Domain) -> None:
    with xen.dom0.open() as channel:
        assert channel.domain_exists(0)
        assert channel.domain_exists(guest.domid)
        assert not channel.domain_exists(999)
        first = guest.domid
        restore(guest)
        assert not channel.domain_exists(first)
        assert channel.domain_exists(guest.domid)
        assert AsyncEventChannel(channel).domain_exists(guest.domid)
        channel.restrict_domid(guest.domid)
        with pytest.raises(PermissionError):
            channel.domain_exists(0)


_LEAVES_A_STALE_HANDLE = """
import os, sys, warnings
from pyxenevtchn.fake import Hypervisor

warnings.simplefilter("ignore")
guest = Hypervisor().create_domain()
with guest.open() as channel:
    channel.bind_unbound_port(0)
    guest.save()
    guest.restore()
    channel.mark_stale()
del channel
# Modules that are still referenced are emptied at the end, with all that they have.
os.register_at_fork(before=lambda modules=[*sys.modules.values()]: modules)
"""


def test_a_program_ends_quietly_with_a_stale_handle() -> None:
    with running_python(_LEAVES_A_STALE_HANDLE) as process:
        assert process.end() == (0, "", "")

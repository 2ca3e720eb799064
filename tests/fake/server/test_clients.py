"""Clients of a server: their handles, how they end, and how the server ends."""

import asyncio
import contextlib
import errno
import functools
import os
import select
import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from pyxenevtchn import AsyncEventChannel, EventChannel, Request, Virq
from pyxenevtchn.opening import open_device

from ...command import running_python
from ...concurrency import alarms, threads, until_asleep
from ...descriptors import descriptors
from ...limits import TIMEOUT
from ..helpers import connect, open_without_descriptors
from .process import ServerProcess, serving


def guardian_of(server: ServerProcess) -> int:
    children = Path(f"/proc/{server.process.pid}/task/{server.process.pid}/children")
    (child,) = children.read_text().split()
    return int(child)


HOLD_DEBUG = """
import sys
from pyxenevtchn import EventChannel, Virq

channel = EventChannel.open(sys.argv[1])
print(channel.bind_virq(Virq.DEBUG), flush=True)
sys.stdin.read()
"""


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_a_killed_client_loses_its_ports(server: ServerProcess, number: int) -> None:
    with (
        running_python(HOLD_DEBUG, server.name()) as holder,
        EventChannel.open(server.name()) as channel,
    ):
        held = int(holder.line())
        assert held in {port.port for port in server.xen.ports(0)}
        with pytest.raises(FileExistsError):
            channel.bind_virq(Virq.DEBUG)
        holder.signal(number)
        assert holder.end().status == -number
        # Its exit closed its connections before this one is made.
        assert held not in {port.port for port in server.xen.ports(0)}
        assert channel.bind_virq(Virq.DEBUG)


ANSWER_ONCE = """
import sys
from pyxenevtchn import EventChannel

with EventChannel.open(sys.argv[1]) as channel:
    port = channel.bind_unbound_port(7)
    print(port, flush=True)
    for port in channel.events():
        channel.notify(port)
        break
"""


def test_two_processes_meet(server: ServerProcess) -> None:
    with (
        running_python(ANSWER_ONCE, server.name()) as backend,
        EventChannel.open(server.name(7)) as frontend,
    ):
        port = frontend.bind_interdomain(0, int(backend.line()))
        frontend.notify(port)
        assert frontend.wait(TIMEOUT) == [port]
        assert backend.end() == (0, "", "")


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_a_server_that_ends_wakes_waiters_with_an_error(
    own_server: ServerProcess, number: int
) -> None:
    errors: list[OSError] = []

    def wait(channel: EventChannel) -> None:
        with pytest.raises(ConnectionResetError) as caught:
            channel.wait()
        errors.append(caught.value)

    with (
        EventChannel.open(own_server.name()) as channel,
        EventChannel.open(own_server.name(), nonblocking=False) as blocking,
        threads(*(functools.partial(wait, each) for each in (channel, blocking) * 2)) as waiters,
    ):
        for waiter in waiters:
            until_asleep(waiter)
        own_server.process.send_signal(number)
    assert len(errors) == 4
    for error in errors:
        assert str(own_server.path) in str(error)
        assert error.__notes__ == ["the server of this fake has ended"]


def test_a_signal_to_the_servers_process_group_does_not_reach_its_guardian(
    server: ServerProcess,
) -> None:
    assert os.getpgid(guardian_of(server)) != os.getpgid(server.process.pid)


def test_select_epoll_and_asyncio_report_that_the_server_has_ended(
    own_server: ServerProcess,
) -> None:
    async def consume(channel: EventChannel) -> None:
        async with AsyncEventChannel(channel) as events:
            task = asyncio.ensure_future(anext(events.events()))
            await asyncio.sleep(0)
            own_server.process.kill()
            with pytest.raises(ConnectionResetError):
                await asyncio.wait_for(task, TIMEOUT)

    with (
        EventChannel.open(own_server.name()) as channel,
        EventChannel.open(own_server.name()) as other,
        select.epoll() as edge,
    ):
        edge.register(other, select.EPOLLIN | select.EPOLLET)
        assert edge.poll(0) == []
        asyncio.run(consume(channel))
        assert edge.poll(TIMEOUT)
        assert select.select([other], [], [], TIMEOUT)[0] == [other]


def test_a_server_that_is_gone_fails_every_call(own_server: ServerProcess) -> None:
    calls: list[Callable[[EventChannel], object]] = [
        lambda channel: channel.bind_virq(Virq.DEBUG),
        lambda channel: channel.notify(1),
        lambda channel: channel.notify_many([1]),
        lambda channel: channel.reset(),
        lambda channel: channel.read(),
        lambda channel: channel.unmask(1),
        lambda channel: EventChannel.open(channel.name),
    ]
    with contextlib.ExitStack() as stack:
        channels = [stack.enter_context(EventChannel.open(own_server.name())) for _ in calls]
        own_server.stop()
        for call, channel in zip(calls, channels, strict=True):
            # The second time there is no connection left, so the call makes a new one.
            for _ in range(2):
                with pytest.raises(OSError, match=str(own_server.path)) as caught:
                    call(channel)
                assert caught.value.errno in {errno.ECONNRESET, errno.ENOENT}
                assert caught.value.__notes__


def test_a_server_whose_guardian_is_killed_ends(own_server: ServerProcess) -> None:
    with EventChannel.open(own_server.name()) as channel:
        os.kill(guardian_of(own_server), signal.SIGKILL)
        assert own_server.running.end().status == 1
        with pytest.raises(ConnectionResetError):
            channel.bind_virq(Virq.DEBUG)


def test_without_a_server_the_error_says_how_to_start_one(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError) as caught:
        EventChannel.open(f"fake:unix:{tmp_path}/socket")
    assert caught.value.filename == f"fake:unix:{tmp_path}/socket"
    assert f"xenevtchn fake serve --socket {tmp_path}/socket" in caught.value.__notes__[0]


def test_a_handle_is_in_the_domain_that_its_name_says(tmp_path: Path) -> None:
    with (
        serving(tmp_path / "socket", "--linux", "6.12") as server,
        EventChannel.open(f"{server.name()}?domid=0") as first,
        EventChannel.open(server.name(3)) as second,
        EventChannel.open(server.name(3)) as third,
    ):
        assert first.name == server.name()
        assert second.name == server.name(3)
        second.bind_static(2000)
        # The library refuses that two handles of a process take each other's ports in a domain.
        with pytest.raises(OSError, match="refused: another handle of this process"):
            third.bind_static(2000)
        first.bind_static(2000)


def test_calls_in_a_destroyed_domain_fail_with_a_note(server: ServerProcess) -> None:
    domid = server.xen.create_domain()
    with EventChannel.open(server.name(domid)) as channel:
        server.xen.destroy_domain(domid)
        assert channel.poll(0) == select.POLLERR
        with pytest.raises(OSError, match="No such device") as caught:
            channel.read()
        assert caught.value.errno == errno.ENODEV
        assert caught.value.__notes__ == ["this domain of the fake no longer exists"]


CALLS: dict[str, Callable[[EventChannel], object]] = {
    Request.BIND_VIRQ: lambda channel: channel.bind_virq(Virq.DEBUG),
    Request.NOTIFY: lambda channel: channel.notify_many([1]),
    Request.RESET: lambda channel: channel.reset(),
    "read": lambda channel: channel.read(),
    "write": lambda channel: channel.unmask(1),
}


@pytest.mark.parametrize("operation", CALLS)
def test_an_injected_failure_comes(server: ServerProcess, operation: str) -> None:
    with EventChannel.open(server.name()) as channel:
        server.xen.fail_next(0, operation, errno.EIO)
        with pytest.raises(OSError, match=f"^.Errno 5. {operation}\\("):
            CALLS[operation](channel)


def test_what_the_hypervisor_refuses_is_a_value_error(server: ServerProcess) -> None:
    for call in (
        lambda: server.xen.raise_virq(24),
        lambda: server.xen.raise_virq(Virq.CON_RING, server.xen.create_domain()),
        lambda: server.xen.ports(9999),
        lambda: server.xen.create_domain(0),
        lambda: server.xen.destroy_domain(0),
        lambda: server.xen.fail_next(0, "poll", errno.EIO),
        lambda: server.xen.ports(-1),
    ):
        with pytest.raises(ValueError, match=r"no domain|must be|dom0|already"):
            call()


def test_check_clean_names_what_is_left_behind(server: ServerProcess) -> None:
    with (
        EventChannel.open(server.name()),
        pytest.raises(AssertionError, match="left behind in domain 0: a handle"),
    ):
        server.xen.check_clean()


def test_more_than_a_page_of_ports_at_once(server: ServerProcess) -> None:
    count = 2500
    with EventChannel.open(server.name()) as near, EventChannel.open(server.name()) as far:
        offered = [near.bind_unbound_port(0) for _ in range(count)]
        ports = [far.bind_interdomain(0, port) for port in offered]
        # Each is pending from the start, and the events merge.
        assert near.notify_many(offered) == count
        came: list[int] = []
        while len(came) < count:
            came += far.wait(TIMEOUT)
        assert came == ports
        assert far.unmask(came) == count
        near.unbind(offered[2000])
        with pytest.raises(OSError, match="after 2000 ports were notified"):
            near.notify_many(offered)


def test_a_device_leaves_no_descriptor_open(server: ServerProcess) -> None:
    before = descriptors()
    device = open_device(server.name())
    device.ioctl(Request.RESET)
    twin = EventChannel.from_fd(os.dup(device.fileno()))
    device.close()
    device.close()
    assert twin.bind_virq(Virq.DEBUG)
    twin.close()
    del device, twin  # this frees their descriptor numbers
    assert descriptors() == before


def test_an_open_without_free_descriptors_leaves_none_open(
    server: ServerProcess,
) -> None:
    open_without_descriptors(lambda: open_device(server.name()))


def test_a_signal_handler_may_use_a_handle_during_its_calls(server: ServerProcess) -> None:
    with EventChannel.open(server.name()) as channel:
        sender, receiver = connect(channel, 0, channel, 0)
        with alarms(1000, lambda: channel.unbind(channel.bind_unbound_port(0))) as left:
            while left() > 0:
                channel.notify(sender)
                assert channel.wait(TIMEOUT) == [receiver]
                assert channel.unmask(receiver) == 1


# No EventChannel: this tests the connection, with an exception at any moment.
INTERRUPT = """
import contextlib, signal, sys
from pyxenevtchn import Request
from pyxenevtchn.abi import pack_ports, unpack_ports
from pyxenevtchn.opening import open_device

class Interrupted(Exception):
    pass

def interrupt(number, frame):
    global armed
    armed = False
    raise Interrupted

# In Python 3.13, an exception at a loop's jump back to its start escapes the with statement around
# the loop (python/cpython#108214), so this loop is in a function.
def call_until_interrupted():
    while armed:  # an exception in a destructor is lost
        assert device.write(pack_ports(receiver)) == 4
        assert device.ioctl(Request.NOTIFY, sender) == 0
        with contextlib.suppress(BlockingIOError):
            assert set(unpack_ports(device.read(4096))) == {receiver}

device = open_device(sys.argv[1])
sender = device.ioctl(Request.BIND_UNBOUND_PORT, 0)
receiver = device.ioctl(Request.BIND_INTERDOMAIN, 0, sender)
event = bytes(pack_ports(receiver))
assert device.read(4096) == event
signal.signal(signal.SIGALRM, interrupt)
for _ in range(300):
    armed = True
    with contextlib.suppress(Interrupted):
        signal.setitimer(signal.ITIMER_REAL, 0.0003)
        call_until_interrupted()
    # Whatever was interrupted, the device still works.
    device.write(pack_ports(receiver))
    device.ioctl(Request.RESET)
    device.write(pack_ports(receiver))
    device.ioctl(Request.NOTIFY, sender)
    assert device.read(4096) == event
device.close()
"""


def test_a_call_that_an_exception_interrupts_disturbs_no_other(server: ServerProcess) -> None:
    with running_python(INTERRUPT, server.name()) as process:
        ended = process.end()
    assert (ended.status, ended.output) == (0, ""), ended.errors

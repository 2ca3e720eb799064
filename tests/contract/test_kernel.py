"""Tests that need a real descriptor: plain system calls, other processes."""

import errno
import fcntl
import os
import struct
import subprocess
import sys

import pytest

from pyxenevtchn import DOMID_SELF, EventChannel, Virq
from pyxenevtchn._ffi import lib

from ..command import running_python
from ..conftest import DEVICE_NODE
from ..here import Here
from ..limits import TIMEOUT
from .conftest import OpenChannel
from .events import Pair, expect

pytestmark = pytest.mark.backends("preload", "real")

REQUESTS_WITH_ARGUMENT = (
    lib.IOCTL_EVTCHN_BIND_VIRQ,
    lib.IOCTL_EVTCHN_BIND_INTERDOMAIN,
    lib.IOCTL_EVTCHN_BIND_UNBOUND_PORT,
    lib.IOCTL_EVTCHN_UNBIND,
    lib.IOCTL_EVTCHN_NOTIFY,
    lib.IOCTL_EVTCHN_RESTRICT_DOMID,
)


@pytest.mark.parametrize("request_number", REQUESTS_WITH_ARGUMENT, ids=hex)
def test_a_null_argument_is_a_fault(channel: EventChannel, request_number: int) -> None:
    with pytest.raises(OSError, match="Bad address") as caught:
        fcntl.ioctl(channel, request_number, 0)
    assert caught.value.errno == errno.EFAULT


@pytest.mark.parametrize(
    "request_number",
    [0x4508, 0x00044508, lib.IOCTL_EVTCHN_NOTIFY + 0x40000, lib.IOCTL_EVTCHN_RESET + 0x40000],
)
def test_an_unknown_request_is_enosys(channel: EventChannel, request_number: int) -> None:
    with pytest.raises(OSError, match="not implemented") as caught:
        fcntl.ioctl(channel, request_number, struct.pack("=2I", 0, 0))
    assert caught.value.errno == errno.ENOSYS


def test_the_hypercall_cuts_a_domid_that_the_library_refuses(
    channel: EventChannel, open_channel: OpenChannel, here: Here
) -> None:
    """The hypercall uses 16 bits of a domid: 65536 more means the same domain."""
    port = channel.bind_unbound_port(DOMID_SELF)
    domid = 0x10000 + here.domid
    argument = struct.pack("=2I", domid, port)
    other = open_channel()
    connected = fcntl.ioctl(other, lib.IOCTL_EVTCHN_BIND_INTERDOMAIN, bytearray(argument))
    assert connected > 0
    other.notify(connected)
    expect(channel, port)
    with pytest.raises(ValueError, match=str(domid)):
        other.bind_interdomain(domid, port)


def test_the_descriptor_does_not_seek(channel: EventChannel) -> None:
    with pytest.raises(OSError, match="Illegal seek"):
        os.lseek(channel.fileno(), 0, os.SEEK_SET)
    with pytest.raises(OSError, match="Illegal seek"):
        os.pread(channel.fileno(), 4, 0)


def test_plain_reads_and_writes_work_like_the_librarys(pair: Pair) -> None:
    pair.near.notify(pair.near_port)
    assert pair.far.poll(TIMEOUT)
    assert struct.unpack("=I", os.read(pair.far.fileno(), 4096)) == (pair.far_port,)
    os.write(pair.far.fileno(), struct.pack("=I", pair.far_port))
    pair.near.notify(pair.near_port)
    expect(pair.far, pair.far_port)


def test_a_process_that_exits_lets_its_ports_go(channel: EventChannel) -> None:
    binder = (
        "import sys; from pyxenevtchn import EventChannel, Virq;"
        "channel = EventChannel.open(sys.argv[1]); channel.bind_virq(Virq.ARGO);"
        "print('bound', flush=True); sys.stdin.read(); import os; os._exit(0)"
    )
    with running_python(binder, DEVICE_NODE) as process:
        assert process.line() == "bound"
        with pytest.raises(FileExistsError):
            channel.bind_virq(Virq.ARGO)
        process.close_input()
        assert process.end() == (0, "", "")
    assert channel.bind_virq(Virq.ARGO)


BEFORE_UPDATE = """
import json, os, sys
from pyxenevtchn import DOMID_SELF, EventChannel

channel = EventChannel.open(sys.argv[1], cloexec=False)
near = channel.bind_unbound_port(DOMID_SELF)
far = channel.bind_interdomain(DOMID_SELF, near)
channel.notify(near)  # the new program will read this event
state = {port: binding._asdict() for port, binding in channel.bindings.items()}
successor = [sys.executable, "-c", sys.argv[2], str(channel.fileno()), json.dumps(state)]
os.execv(sys.executable, successor)
"""
AFTER_UPDATE = """
import json, sys
from pyxenevtchn import Binding, EventChannel, Request

bindings = {
    int(port): Binding(**{**binding, "request": Request(binding["request"])})
    for port, binding in json.loads(sys.argv[2]).items()
}
with EventChannel.from_fd(int(sys.argv[1]), bindings=bindings) as channel:
    near, far = channel.bindings
    assert channel.bindings[far].remote_port == near
    for _ in range(2):
        assert channel.wait(60) == [far]
        channel.unmask(far)
        channel.notify(near)
    assert channel.recover() == {near, far}
print("updated")
"""


@pytest.mark.usefixtures("device")
def test_a_program_that_executes_its_successor_hands_its_ports_over() -> None:
    done = subprocess.run(
        [sys.executable, "-c", BEFORE_UPDATE, DEVICE_NODE, AFTER_UPDATE],
        capture_output=True,
        text=True,
        timeout=TIMEOUT,
        check=False,
    )
    assert done.stdout == "updated\n", done.stderr


def test_a_descriptor_of_something_else_is_no_event_channel() -> None:
    read_end, write_end = os.pipe()
    try:
        with pytest.raises(OSError, match="not an event-channel device") as caught:
            EventChannel.from_fd(read_end)
        assert caught.value.errno == errno.ENOTTY
    finally:
        os.close(read_end)
        os.close(write_end)

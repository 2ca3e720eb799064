"""What is compared on a device: this library, the C library, and the bare calls.

Each has its own loopback pairs, and does the same operations on them.
"""

import ctypes
import fcntl
import os
import select
import struct
import subprocess
from array import array
from collections.abc import Mapping
from pathlib import Path

from bench_parts.measure import Subject
from pyxenevtchn import DOMID_SELF, AsyncEventChannel, EventChannel, Request
from pyxenevtchn._ffi import ffi, lib
from pyxenevtchn.device import NUMBERS
from pyxenevtchn.receiver import PAGE_PORTS


def compile_c(name: str, folder: Path) -> Path:
    """Compile one of the C programs on libxenevtchn, into a folder."""
    program = folder / name
    source = Path(__file__).with_name(f"{name}.c")
    subprocess.run(
        ["cc", "-O2", "-Wall", "-Werror", "-o", program, source, "-lxenevtchn"], check=True
    )
    return program


class CLibrary:
    """A C program on libxenevtchn, as a subject."""

    def __init__(
        self, *program: str | os.PathLike[str], env: Mapping[str, str] | None = None
    ) -> None:
        self._process = subprocess.Popen(
            program, env=env, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def run(self, case: str, times: int) -> float:
        """Run a case and return the nanoseconds that one operation took."""
        stdin, stdout = self._process.stdin, self._process.stdout
        if stdin is None or stdout is None:
            raise RuntimeError("the C program has no pipes")
        print(case, times, file=stdin, flush=True)
        return float(stdout.readline())

    def subject(self, case: str) -> Subject:
        """Make a subject of one of its cases."""
        return lambda times: self.run(case, times)

    def close(self) -> None:
        """End the program."""
        self._process.communicate()


class Library:
    """This library, with many loopback pairs on one handle."""

    def __init__(self, pairs: int) -> None:
        self.channel = EventChannel.open()
        self.near = []
        self.far = []
        self._buffer = memoryview(array("I", bytes(4096)))
        for _ in range(pairs):
            near = self.channel.bind_unbound_port(DOMID_SELF)
            self.near.append(near)
            self.far.append(self.channel.bind_interdomain(DOMID_SELF, near))
            self.channel.unmask(self.channel.wait())

    def close(self) -> None:
        """Close the handle."""
        self.channel.close()

    # Methods by_*: that many events over the first pair, each a notify, a receive and an unmask.

    def by_wait_and_unmask(self, events: int) -> None:
        """Take each by wait, and unmask it by a call of its own."""
        channel, near = self.channel, self.near[0]
        for _ in range(events):
            channel.notify(near)
            channel.unmask(channel.wait())

    def by_wait(self, events: int) -> None:
        """Take each by wait, which unmasks the one before."""
        channel, near = self.channel, self.near[0]
        ports: list[int] = []
        for _ in range(events):
            channel.notify(near)
            ports = channel.wait(unmask=ports)
        channel.unmask(ports)

    def by_loop(self, events: int) -> None:
        """Take them by the loop over events."""
        channel, near = self.channel, self.near[0]
        channel.notify(near)
        for _ in channel.events():
            events -= 1
            if not events:
                break
            channel.notify(near)

    async def by_async_loop(self, events: int) -> None:
        """Take them by the asynchronous loop."""
        channel, near = AsyncEventChannel(self.channel), self.near[0]
        channel.notify(near)
        async for _ in channel.events():
            events -= 1
            if not events:
                break
            channel.notify(near)

    async def by_async_read(self, events: int) -> None:
        """Take each by read, in asyncio."""
        channel, near = AsyncEventChannel(self.channel), self.near[0]
        for _ in range(events):
            channel.notify(near)
            channel.unmask(await channel.read())

    async def by_async_wait(self, events: int) -> None:
        """Wait for each, in asyncio, by its port."""
        channel, near, far = AsyncEventChannel(self.channel), self.near[0], self.far[0]
        for _ in range(events):
            channel.notify(near)
            await channel.wait(far)
        channel.unmask(far)

    def notify_each(self, ports: int) -> None:
        """Notify that many ports, one call each."""
        for port in self.near[:ports]:
            self.channel.notify(port)

    def notify_many(self, ports: int) -> None:
        """Notify that many ports with one call."""
        self.channel.notify_many(self.near[:ports])

    def drain(self, events: int) -> None:
        """Take that many events by wait and unmask."""
        while events:
            ports = self.channel.wait()
            self.channel.unmask(ports)
            events -= len(ports)

    def drain_into(self, events: int) -> None:
        """Take that many events by read_into and unmask, without an int for any of them."""
        while events:
            try:
                count = self.channel.read_into(self._buffer)
            except BlockingIOError:
                self.channel.poll()
                continue
            self.channel.unmask(self._buffer[:count])
            events -= count

    def drain_loop(self, events: int) -> None:
        """Take that many events by the loop over events."""
        for _ in self.channel.events():
            events -= 1
            if not events:
                break

    async def drain_asyncio(self, events: int) -> None:
        """Take that many events by the asynchronous loop."""
        async for _ in AsyncEventChannel(self.channel).events():
            events -= 1
            if not events:
                break


class Plain:
    """The system calls, made by Python's standard library."""

    def __init__(self, pairs: int) -> None:
        self.fd = os.open("/dev/xen/evtchn", os.O_RDWR | os.O_CLOEXEC)
        self.poller = select.poll()
        self.poller.register(self.fd, select.POLLIN)
        self.near = [self._connect() for _ in range(pairs)]
        self.notifications = [bytearray(struct.pack("=I", near)) for near in self.near]

    def _connect(self) -> int:
        near: int = fcntl.ioctl(
            self.fd, lib.IOCTL_EVTCHN_BIND_UNBOUND_PORT, bytearray(struct.pack("=I", DOMID_SELF))
        )
        argument = bytearray(struct.pack("=2I", DOMID_SELF, near))
        fcntl.ioctl(self.fd, lib.IOCTL_EVTCHN_BIND_INTERDOMAIN, argument)
        self._take()
        return near

    def _take(self) -> int:
        self.poller.poll()
        data = os.read(self.fd, 4096)
        os.write(self.fd, data)
        return len(data) // 4

    def close(self) -> None:
        """Close the descriptor."""
        os.close(self.fd)

    def one_by_one(self, events: int) -> None:
        """Send and take that many events over the first pair, one after the other."""
        near = self.near[0]
        for _ in range(events):
            fcntl.ioctl(self.fd, lib.IOCTL_EVTCHN_NOTIFY, bytearray(struct.pack("=I", near)))
            self._take()

    def notify_each(self, ports: int) -> None:
        """Notify that many ports."""
        for argument in self.notifications[:ports]:
            fcntl.ioctl(self.fd, lib.IOCTL_EVTCHN_NOTIFY, argument)

    def drain(self, events: int) -> None:
        """Take that many events, a page at a time."""
        while events:
            events -= self._take()


class Bare:
    """The driver's operations alone, each by one call of C's: the rest of the time is Python's.

    No check, no bookkeeping, no other thread, no close: a library cannot do less than this.
    """

    def __init__(self, library: Library) -> None:
        self._library = library
        self._fd = library.channel.fileno()
        self._device = ffi.new("struct device *")
        lib.device_adopt(self._device, self._fd)

    def one_by_one(self, events: int) -> None:
        """Send and take that many events over the first pair, one after the other."""
        fd, device, request, size = self._fd, self._device, lib.device_request, 4 * PAGE_PORTS
        notify, near = NUMBERS[Request.NOTIFY], self._library.near[0]
        word, read, write = struct.pack("=I", self._library.far[0]), os.read, os.write
        for _ in range(events):
            request(device, notify, near, 0)
            read(fd, size)
            write(fd, word)

    def notify_many(self, ports: int) -> None:
        """Notify that many ports with one call."""
        self._library.notify_many(ports)

    def drain(self, events: int) -> None:
        """Take that many events, as lists of ints, a page at a time."""
        poller = select.poll()
        poller.register(self._fd, select.POLLIN)
        while events:
            poller.poll()
            ports = array("I", os.read(self._fd, 4 * PAGE_PORTS)).tolist()
            os.write(self._fd, array("I", ports))
            events -= len(ports)


class ThroughCtypes:
    """The C library, called from Python through ctypes, with many loopback pairs on one handle."""

    def __init__(self, pairs: int) -> None:
        self._library = ctypes.CDLL("libxenevtchn.so.1")
        self._library.xenevtchn_open.restype = ctypes.c_void_p
        self._handle = ctypes.c_void_p(self._library.xenevtchn_open(None, 0))
        self._near = []
        for _ in range(pairs):
            near = self._library.xenevtchn_bind_unbound_port(self._handle, DOMID_SELF)
            self._near.append(near)
            self._library.xenevtchn_bind_interdomain(self._handle, DOMID_SELF, near)
            self._take()

    def _take(self) -> None:
        port = self._library.xenevtchn_pending(self._handle)
        self._library.xenevtchn_unmask(self._handle, port)

    def close(self) -> None:
        """Close the handle."""
        self._library.xenevtchn_close(self._handle)

    def notify_each(self, ports: int) -> None:
        """Notify that many ports."""
        for port in self._near[:ports]:
            self._library.xenevtchn_notify(self._handle, port)

    def drain(self, events: int) -> None:
        """Take that many events, one after the other."""
        for _ in range(events):
            self._take()


def bind_and_close(pairs: int) -> None:
    """Connect that many pairs on one handle and close it."""
    with EventChannel.open() as channel:
        for _ in range(pairs):
            channel.bind_interdomain(DOMID_SELF, channel.bind_unbound_port(DOMID_SELF))


def bind_and_close_bare(pairs: int) -> None:
    """Do the same with the compiled functions alone."""
    device = ffi.new("struct device *")
    lib.device_open(device, b"/dev/xen/evtchn", os.O_RDWR | os.O_CLOEXEC)
    for _ in range(pairs):
        near = lib.device_request(device, NUMBERS[Request.BIND_UNBOUND_PORT], DOMID_SELF, 0)
        lib.device_request(device, NUMBERS[Request.BIND_INTERDOMAIN], DOMID_SELF, near)
    lib.device_release(device)

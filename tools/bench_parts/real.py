"""The cases on a real device; run as a program in a dom0, it writes its results as JSON."""

import asyncio
import ctypes
import dataclasses
import fcntl
import json
import os
import select
import struct
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, closing

from bench_parts.measure import Result, Subject, compare, timed, timed_whole
from pyxenevtchn import DOMID_SELF, AsyncEventChannel, EventChannel
from pyxenevtchn._ffi import lib

BURST = 1000


class CLibrary:
    """The C program on libxenevtchn, as a subject."""

    def __init__(self, program: str) -> None:
        self._process = subprocess.Popen(
            [program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
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
        for _ in range(pairs):
            near = self.channel.bind_unbound_port(DOMID_SELF)
            self.near.append(near)
            self.far.append(self.channel.bind_interdomain(DOMID_SELF, near, drain=True))

    def close(self) -> None:
        """Close the handle."""
        self.channel.close()

    def round_trip(self) -> None:
        """Send an event there and one back, on the first pair."""
        channel = self.channel
        channel.notify(self.near[0])
        channel.unmask(channel.wait())
        channel.notify(self.far[0])
        channel.unmask(channel.wait())

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

    async def round_trips_asyncio(self, times: int) -> None:
        """Send that many events there and back, waiting in asyncio."""
        channel = AsyncEventChannel(self.channel)
        for _ in range(times):
            channel.notify(self.near[0])
            channel.unmask(await channel.read())
            channel.notify(self.far[0])
            channel.unmask(await channel.read())


class Plain:
    """The bare system calls from Python."""

    def __init__(self) -> None:
        self.fd = os.open("/dev/xen/evtchn", os.O_RDWR | os.O_CLOEXEC)
        self.poller = select.poll()
        self.poller.register(self.fd, select.POLLIN)
        self.pairs = [self._connect() for _ in range(BURST)]
        self.notifications = [bytearray(struct.pack("=I", near)) for near, _ in self.pairs]

    def _connect(self) -> tuple[int, int]:
        near = fcntl.ioctl(
            self.fd, lib.IOCTL_BIND_UNBOUND_PORT, bytearray(struct.pack("=I", DOMID_SELF))
        )
        argument = bytearray(struct.pack("=2I", DOMID_SELF, near))
        far = fcntl.ioctl(self.fd, lib.IOCTL_BIND_INTERDOMAIN, argument)
        self._take()
        return near, far

    def _take(self) -> int:
        self.poller.poll()
        data = os.read(self.fd, 4096)
        os.write(self.fd, data)
        return len(data) // 4

    def close(self) -> None:
        """Close the descriptor."""
        os.close(self.fd)

    def round_trip(self) -> None:
        """Send an event there and one back, on the first pair."""
        for port in self.pairs[0]:
            fcntl.ioctl(self.fd, lib.IOCTL_NOTIFY, bytearray(struct.pack("=I", port)))
            self._take()

    def notify_each(self, ports: int) -> None:
        """Notify that many ports."""
        for argument in self.notifications[:ports]:
            fcntl.ioctl(self.fd, lib.IOCTL_NOTIFY, argument)

    def drain(self, events: int) -> None:
        """Take that many events, a page at a time."""
        while events:
            events -= self._take()


def bind_and_close(pairs: int) -> None:
    """Connect that many pairs on one handle and close it."""
    with EventChannel.open() as channel:
        for _ in range(pairs):
            channel.bind_interdomain(DOMID_SELF, channel.bind_unbound_port(DOMID_SELF))


class ThroughCtypes:
    """The C library, called from Python through ctypes, with many loopback pairs on one handle."""

    def __init__(self) -> None:
        self._library = ctypes.CDLL("libxenevtchn.so.1")
        self._library.xenevtchn_open.restype = ctypes.c_void_p
        self._handle = ctypes.c_void_p(self._library.xenevtchn_open(None, 0))
        self._near = []
        for _ in range(BURST):
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


def only(
    timed_part: Subject, *, before: Subject | None = None, after: Subject | None = None
) -> Subject:
    """Time one part of what has to be done in sequence."""

    def run(times: int) -> float:
        if before:
            before(times)
        took = timed_part(times)
        if after:
            after(times)
        return took

    return run


def run(program: str, rounds: int) -> Iterator[Result]:
    """Run every case, the C library first in each.

    Args:
        program: the compiled C program.
        rounds: how many rounds to count of each.
    """
    with ExitStack() as stack:
        c = stack.enter_context(closing(CLibrary(program)))
        ours = stack.enter_context(closing(Library(BURST)))
        plain = stack.enter_context(closing(Plain()))
        foreign = stack.enter_context(closing(ThroughCtypes()))
        loop = stack.enter_context(asyncio.Runner())
        c.run("setup", BURST)

        yield compare(
            "round trip",
            "there and back",
            {
                "C library": c.subject("round_trip"),
                "this": timed(ours.round_trip),
                "this, asyncio": timed_whole(lambda n: loop.run(ours.round_trips_asyncio(n))),
                "fcntl": timed(plain.round_trip),
            },
            times=200,
            rounds=rounds,
        )
        yield compare(
            "notify 1,000 ports",
            "port",
            {
                "C library": only(c.subject("notify"), after=c.subject("drain")),
                "this, notify_many": only(
                    timed_whole(ours.notify_many), after=timed_whole(ours.drain)
                ),
                "this, notify": only(timed_whole(ours.notify_each), after=timed_whole(ours.drain)),
                "fcntl": only(timed_whole(plain.notify_each), after=timed_whole(plain.drain)),
                "C library, ctypes": only(
                    timed_whole(foreign.notify_each), after=timed_whole(foreign.drain)
                ),
            },
            times=BURST,
            rounds=rounds,
        )
        yield compare(
            "drain 1,000 ports",
            "port",
            {
                "C library": only(c.subject("drain"), before=c.subject("notify")),
                "this, wait/unmask": only(
                    timed_whole(ours.drain), before=timed_whole(ours.notify_many)
                ),
                "this, events()": only(
                    timed_whole(ours.drain_loop), before=timed_whole(ours.notify_many)
                ),
                "this, asyncio": only(
                    timed_whole(lambda n: loop.run(ours.drain_asyncio(n))),
                    before=timed_whole(ours.notify_many),
                ),
                "fcntl": only(timed_whole(plain.drain), before=timed_whole(plain.notify_each)),
                "C library, ctypes": only(
                    timed_whole(foreign.drain), before=timed_whole(foreign.notify_each)
                ),
            },
            times=BURST,
            rounds=rounds,
        )
        yield compare(
            "bind and close 1,000 pairs",
            "pair",
            {"C library": c.subject("pairs"), "this": timed_whole(bind_and_close)},
            times=BURST,
            rounds=max(3, rounds // 2),
        )
    for pairs in (5, 50, 500, 2000):
        with closing(CLibrary(program)) as c, closing(Library(pairs)) as ours:
            c.run("setup", pairs)
            yield compare(
                f"round trip with {2 * pairs:,} ports bound",
                "there and back",
                {"C library": c.subject("round_trip"), "this": timed(ours.round_trip)},
                times=200,
                rounds=rounds,
            )


def main() -> None:
    """Run every case and write the results, a line of JSON each: real PROGRAM ROUNDS."""
    for result in run(sys.argv[1], int(sys.argv[2])):
        print(json.dumps(dataclasses.asdict(result)), flush=True)


if __name__ == "__main__":
    main()

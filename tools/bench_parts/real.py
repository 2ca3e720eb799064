"""The cases on a real device; run as a program in a dom0, it writes its results as JSON."""

import asyncio
import dataclasses
import json
import platform
import sys
from collections.abc import Iterator
from contextlib import ExitStack, closing
from functools import partial
from pathlib import Path

from bench_parts.measure import Result, compare, only, timed_in, timed_whole
from bench_parts.subjects import (
    Bare,
    CLibrary,
    Library,
    Plain,
    ThroughCtypes,
    bind_and_close,
    bind_and_close_bare,
)
from bench_parts.userspace import BLOCKING, IN_ASYNCIO, UNIT

BURST = 1000

# How many pairs are bound, for each point of the plot.
GROWTH = (5, 50, 500, 2000)

ONE_EVENT_WITH = "one event with"

_XEN = Path("/sys/hypervisor/version")


def run(program: str, rounds: int) -> Iterator[Result]:
    """Run every case, the C library first in each.

    Args:
        program: the compiled C program.
        rounds: how many rounds to count of each.
    """
    with ExitStack() as stack:
        c = stack.enter_context(closing(CLibrary(program)))
        # First, while no other subject holds a port: the kernel takes longer with more ports.
        yield compare(
            "bind and close 1,000 pairs",
            "pair",
            {
                "C library": c.subject("pairs"),
                "this": timed_whole(bind_and_close),
                "bare calls": timed_whole(bind_and_close_bare),
            },
            times=BURST,
            rounds=rounds,
        )
        c.run("setup", BURST)
        ours = stack.enter_context(closing(Library(BURST)))
        # Only for asyncio: an epoll that watches a handle makes its events cost the kernel more.
        other = stack.enter_context(closing(Library(BURST)))
        bare = Bare(stack.enter_context(closing(Library(BURST))))
        plain = stack.enter_context(closing(Plain(BURST)))
        foreign = stack.enter_context(closing(ThroughCtypes(BURST)))
        loop = stack.enter_context(asyncio.Runner())

        yield compare(
            "one event",
            UNIT,
            {
                "C library": c.subject("event"),
                **{name: timed_whole(partial(go, ours)) for name, go in BLOCKING.items()},
                **{name: timed_in(loop, partial(go, other)) for name, go in IN_ASYNCIO.items()},
                "bare calls": timed_whole(bare.one_by_one),
                "fcntl": timed_whole(plain.one_by_one),
            },
            times=400,
            rounds=rounds,
        )
        c_notify, c_drain = c.subject("notify"), c.subject("drain")
        notify, drain = timed_whole(ours.notify_many), timed_whole(ours.drain)
        yield compare(
            "notify 1,000 ports",
            "port",
            {
                "C library": only(c_notify, after=c_drain),
                "this, notify_many": only(notify, after=drain),
                "this, notify": only(timed_whole(ours.notify_each), after=drain),
                "fcntl": only(timed_whole(plain.notify_each), after=plain.drain),
                "C library, ctypes": only(timed_whole(foreign.notify_each), after=foreign.drain),
            },
            times=BURST,
            rounds=rounds,
        )
        yield compare(
            "drain 1,000 ports",
            "port",
            {
                "C library": only(c_drain, before=c_notify),
                "this, wait/unmask": only(drain, before=notify),
                "this, read_into/unmask": only(timed_whole(ours.drain_into), before=notify),
                "this, events()": only(timed_whole(ours.drain_loop), before=notify),
                "this, asyncio": only(
                    timed_in(loop, other.drain_asyncio), before=other.notify_many
                ),
                "bare calls": only(timed_whole(bare.drain), before=bare.notify_many),
                "fcntl": only(timed_whole(plain.drain), before=plain.notify_each),
                "C library, ctypes": only(timed_whole(foreign.drain), before=foreign.notify_each),
            },
            times=BURST,
            rounds=4 * rounds,
        )
    for pairs in GROWTH:
        with closing(CLibrary(program)) as c, closing(Library(pairs)) as ours:
            c.run("setup", pairs)
            yield compare(
                f"{ONE_EVENT_WITH} {2 * pairs:,} ports bound",
                UNIT,
                {"C library": c.subject("event"), "this": timed_whole(ours.by_wait)},
                times=400,
                rounds=rounds,
            )


def machine() -> str:
    """Return the versions of Linux and Xen that this runs on."""
    version = [(_XEN / part).read_text().strip() for part in ("major", "minor", "extra")]
    return f"Linux {platform.release()} on Xen {version[0]}.{version[1]}{version[2]}"


def main() -> None:
    """Write the machine and the result of every case, a line of JSON each: real PROGRAM ROUNDS."""
    print(json.dumps(machine()), flush=True)
    for result in run(sys.argv[1], int(sys.argv[2])):
        print(json.dumps(dataclasses.asdict(result)), flush=True)


if __name__ == "__main__":
    main()

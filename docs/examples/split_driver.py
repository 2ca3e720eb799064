"""A split driver, at its smallest: a frontend asks, a backend answers.

Events carry no data. Requests and answers are in a page that both ends map, and an event means
"look at the page". So each end looks once at the start, and again after each event, including the
one that a connection starts with: it sees whatever came earlier or was merged. Neither end is told
when the other goes away: the frontend writes in the page that it is done, and gives up on a backend
that stays silent.

Between domains, the page is granted, and the frontend's domid and port get to the backend through
xenstore. Here the page is a file, and the port a number that you pass on.

In one domain, a dom0 or domU, as root, each in a terminal of its own:

    python split_driver.py frontend page            # says: port PORT
    python split_driver.py backend page PORT

On the fake, in two domains of it:

    xenevtchn fake serve --socket /tmp/xen
    XENEVTCHN_DEVICE='fake:unix:/tmp/xen?domid=3' python split_driver.py frontend page --peer 0
    XENEVTCHN_DEVICE=fake:unix:/tmp/xen python split_driver.py backend page PORT --peer 3
"""

import argparse
import asyncio
import mmap
import sys
from collections.abc import Callable
from pathlib import Path

from pyxenevtchn import DOMID_SELF, AsyncEventChannel, EventChannel, RingOverflow

# The 32-bit words of the page. Data is written before its counter; x86 keeps that order.
ASKED, ANSWERED, DATA, DONE = range(4)


async def until(channel: AsyncEventChannel, port: int, look: Callable[[], bool]) -> None:
    """Call look at the start and after each event, until it returns true."""
    while not look():
        try:
            await channel.wait(port)
        except RingOverflow:
            channel.channel.recover()  # the event may be lost; look as if it had come


async def frontend(channel: AsyncEventChannel, page: memoryview, peer: int) -> None:
    """Request some squares."""
    port = channel.bind_unbound_port(peer)
    print(f"port {port}", flush=True)
    try:
        for number in range(1, 6):
            page[DATA] = number
            page[ASKED] = number
            channel.notify(port)  # dropped if the backend is not connected yet
            # A person starts the backend, so the first answer may take long.
            async with asyncio.timeout(None if number == 1 else 10):
                await until(channel, port, lambda: page[ANSWERED] == page[ASKED])
            print(f"the square of {number} is {page[DATA]}", flush=True)
    finally:
        page[DONE] = True
        channel.notify(port)


async def backend(channel: AsyncEventChannel, page: memoryview, peer: int, offered: int) -> None:
    """Answer until the frontend is done."""
    port = channel.bind_interdomain(peer, offered)
    print("connected", flush=True)

    def serve() -> bool:
        # Read each once: a guest may write any value there, at any time.
        asked, number = page[ASKED], page[DATA]
        if asked != page[ANSWERED]:
            page[DATA] = number**2 & 0xFFFF_FFFF
            page[ANSWERED] = asked
            channel.notify(port)
        return bool(page[DONE])

    await until(channel, port, serve)
    print(f"answered {page[ANSWERED]} requests", flush=True)


async def main() -> None:
    """Run one end."""
    parser = argparse.ArgumentParser(description="Run one end of a split driver.")
    parser.add_argument("end", choices=["frontend", "backend"])
    parser.add_argument("page", type=Path, help="a file; the frontend overwrites it")
    parser.add_argument("port", type=int, nargs="?", help="for the backend, the frontend's port")
    parser.add_argument("--peer", type=int, default=DOMID_SELF, help="the other end's domid")
    options = parser.parse_args()
    if (options.end == "backend") != (options.port is not None):
        parser.error("the backend needs the frontend's port; the frontend takes none")
    if options.end == "frontend":
        options.page.write_bytes(bytes(mmap.PAGESIZE))
    with options.page.open("r+b") as file, mmap.mmap(file.fileno(), mmap.PAGESIZE) as memory:
        async with AsyncEventChannel(EventChannel.open()) as channel:
            with memoryview(memory).cast("I") as page:
                if options.end == "frontend":
                    await frontend(channel, page, options.peer)
                else:
                    await backend(channel, page, options.peer, options.port)


if __name__ == "__main__":
    try:
        asyncio.run(main())
    except KeyboardInterrupt:
        sys.exit(130)
    except TimeoutError:
        sys.exit("the backend no longer answers")
    except OSError as error:
        sys.exit("\n".join([str(error), *getattr(error, "__notes__", ())]))

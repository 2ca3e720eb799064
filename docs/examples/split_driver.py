"""A split driver, at its smallest: a frontend asks, a backend answers.

Events carry no data. What is asked and answered lies in a page that both ends map, and an event
says "look at the page". So each end looks once at the start, and then after each event, that with
which Xen greets the end that connects included; whatever came before or was merged is there to be
seen. Nobody is told when the other end goes
away: the frontend says in the page that it is done, and gives up on a backend that stays silent.

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

# The 32-bit words of the page. Who counts up writes the data first; x86 keeps that order.
ASKED, ANSWERED, DATA, DONE = range(4)


async def until(channel: AsyncEventChannel, port: int, look: Callable[[], bool]) -> None:
    """Look at the page, and again after each event, until there is what one looks for."""
    while not look():
        try:
            await channel.wait(port)
        except RingOverflow:
            channel.channel.recover()  # the event may be lost; look as if it had come


async def frontend(channel: AsyncEventChannel, page: memoryview, peer: int) -> None:
    """Ask for some squares."""
    port = channel.bind_unbound_port(peer)
    print(f"port {port}", flush=True)
    try:
        for number in range(1, 6):
            page[DATA] = number
            page[ASKED] = number
            channel.notify(port)  # into the void, where nobody has connected yet
            # A person starts the backend, so the first answer may take its time.
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
        # Read once each: a guest may write anything there, and at any time.
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
    parser.add_argument("page", type=Path, help="a file; the frontend makes it anew")
    parser.add_argument("port", type=int, nargs="?", help="for the backend, the frontend's port")
    parser.add_argument("--peer", type=int, default=DOMID_SELF, help="the other end's domid")
    options = parser.parse_args()
    if (options.end == "backend") != (options.port is not None):
        parser.error("the backend, and it alone, needs the frontend's port")
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
        sys.exit("the backend does not answer any more")
    except OSError as error:
        sys.exit("\n".join([str(error), *getattr(error, "__notes__", ())]))

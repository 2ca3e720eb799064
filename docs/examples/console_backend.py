"""A console backend: what xenconsoled does, for one guest, in a terminal.

It maps the page that the guest shares for its console, connects to the port that the guest offers,
shows what the guest prints and sends what is typed. The guest is found by its name in XenStore, and
found again after a save and a restore, or a reboot, which give it another domid.

In dom0, as root; xenconsoled must not run, because it connects to each guest:

    python console_backend.py NAME          # Ctrl-] ends it; the guest goes on

Each index of the ring is a 32-bit word that only one end writes. The producer writes the data, then
its index, and then notifies: the consumer wakes and sees all of it. The consumer reads the index
and the data, writes its own index, and notifies: the producer may wait for room. An index must be
written in one piece: memoryview does that, struct writes a byte at a time. There is no barrier
between the steps: x86 keeps their order, elsewhere the system calls around them do.
"""

import argparse
import asyncio
import fcntl
import mmap
import os
import struct
import sys
import termios
import tty
from collections.abc import Callable
from pathlib import Path

from pyxenevtchn import AsyncEventChannel, EventChannel

# From Linux's <xen/gntdev.h>: map one grant, {count, padding, index, domid, reference}.
MAP_GRANT_REF = 0x184700
GRANT = struct.Struct("=IIQII")
CONSOLE = 0  # GNTTAB_RESERVED_CONSOLE: by it the toolstack grants the page to dom0
# struct xencons_interface of Xen's <io/console.h>: the rings in bytes, the indices (modulo WORD) in
# 32-bit words.
TO_GUEST, FROM_GUEST = range(1024), range(1024, 3072)
TO_GUEST_TAKEN, TO_GUEST_ADDED, FROM_GUEST_TAKEN, FROM_GUEST_ADDED = range(768, 772)
WORD = 1 << 32

# From Xen's <io/xs_wire.h>: a message is {type, request, transaction, length} and its strings.
MESSAGE = struct.Struct("=IIII")
DIRECTORY, READ, WATCH, WRITE, WATCH_EVENT, ERROR = 1, 2, 4, 11, 15, 16
XENSTORE = "/run/xenstored/socket"
ESCAPE = b"\x1d"  # Ctrl-]


class XenStore:
    """A connection to xenstored. ``changed`` is set when a watch fires."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.changed = asyncio.Event()
        self.writer = writer
        self._answers: asyncio.Queue[list[str] | None] = asyncio.Queue()
        self.reading = asyncio.create_task(self._read(reader))

    async def ask(self, kind: int, *words: str) -> list[str] | None:
        """Make a request; return the strings of the answer, or None for an error."""
        body = "\0".join(words).encode() + (b"" if kind == WRITE else b"\0")
        self.writer.write(MESSAGE.pack(kind, 0, 0, len(body)) + body)
        return await self._answers.get()

    async def console_of(self, name: str) -> tuple[int, int] | None:
        """Return the domid of a guest, and the port that it offers for its console."""
        for domid in await self.ask(DIRECTORY, "/local/domain") or ():
            if await self.ask(READ, f"/local/domain/{domid}/name") == [name]:
                port = await self.ask(READ, f"/local/domain/{domid}/console/port")
                return (int(domid), int(port[0])) if port else None
        return None

    async def _read(self, reader: asyncio.StreamReader) -> None:
        while True:
            kind, _, _, length = MESSAGE.unpack(await reader.readexactly(MESSAGE.size))
            body = (await reader.readexactly(length)).decode().rstrip("\0")
            if kind == WATCH_EVENT:
                self.changed.set()
            else:
                self._answers.put_nowait(None if kind == ERROR else body.split("\0"))


class Keyboard:
    """Typed bytes that are not sent yet; ``on_more`` is called when there are more."""

    def __init__(self) -> None:
        self.typed = bytearray()
        self.on_more: Callable[[], object] = bool
        self.ended = asyncio.Event()

    def read(self) -> None:
        """Read from standard input; Ctrl-] ends it."""
        text = os.read(0, len(TO_GUEST))
        if not text or ESCAPE in text:
            asyncio.get_running_loop().remove_reader(0)
            self.ended.set()
            return
        self.typed += text
        self.on_more()


def turn(page: mmap.mmap, words: memoryview, typed: bytearray) -> bool:
    """Show what the guest has printed, send what was typed; return whether to notify the guest."""
    added, taken = words[FROM_GUEST_ADDED], words[FROM_GUEST_TAKEN]
    # A guest can write any number there; ignore more than fits into the ring.
    printed = (added - taken) % WORD if (added - taken) % WORD <= len(FROM_GUEST) else 0
    places = (FROM_GUEST[(taken + n) % len(FROM_GUEST)] for n in range(printed))
    sys.stdout.buffer.write(bytes(page[place] for place in places))
    sys.stdout.buffer.flush()
    words[FROM_GUEST_TAKEN] = added
    added = words[TO_GUEST_ADDED]
    room = len(TO_GUEST) - (added - words[TO_GUEST_TAKEN]) % WORD
    sent = min(len(typed), max(room, 0))
    for n in range(sent):
        page[TO_GUEST[(added + n) % len(TO_GUEST)]] = typed[n]
    words[TO_GUEST_ADDED] = (added + sent) % WORD
    del typed[:sent]
    return bool(printed or sent)


def map_page(domid: int) -> mmap.mmap:
    """Map a guest's console page. Xen cannot free a dead guest while it is mapped."""
    with Path("/dev/xen/gntdev").open("r+b", buffering=0) as grants:
        grant = bytearray(GRANT.pack(1, 0, 0, domid, CONSOLE))
        fcntl.ioctl(grants, MAP_GRANT_REF, grant)
        return mmap.mmap(grants.fileno(), mmap.PAGESIZE, offset=GRANT.unpack(grant)[2])


async def serve(channel: AsyncEventChannel, keyboard: Keyboard, domid: int, offered: int) -> None:
    """Serve the console of a domain until the task is cancelled."""
    with map_page(domid) as page, memoryview(page).cast("I") as words:
        port = channel.bind_interdomain(domid, offered)

        def look() -> None:
            if turn(page, words, keyboard.typed):
                channel.notify(port)

        keyboard.on_more = look
        try:
            # The first event, which nobody sent, shows what was printed before.
            async for _ in channel.port_events(port):
                look()
        finally:
            keyboard.on_more = bool
            channel.unbind(port)


async def main(name: str) -> None:
    """Serve the guest of this name, whatever its domid, until Ctrl-]."""
    async with AsyncEventChannel(EventChannel.open()) as channel:
        if not Path(XENSTORE).exists():
            sys.exit(f"no {XENSTORE}: xenstored does not run here")
        store = XenStore(*await asyncio.open_unix_connection(XENSTORE))
        await store.ask(WATCH, "/local/domain", "")
        keyboard = Keyboard()
        asyncio.get_running_loop().add_reader(0, keyboard.read)
        typing: asyncio.Task[object] = asyncio.create_task(keyboard.ended.wait())
        served, serving = None, set[asyncio.Task[object]]()
        try:
            while not typing.done():
                store.changed.clear()
                found = await store.console_of(name)
                if found != served:
                    await stop(serving)
                    served = found
                if found and not serving:
                    serving = {asyncio.create_task(serve(channel, keyboard, *found))}
                    # `xl create` waits for this node.
                    await store.ask(WRITE, f"/local/domain/{found[0]}/console/tty", "/dev/null")
                changed: asyncio.Task[object] = asyncio.create_task(store.changed.wait())
                await asyncio.wait({typing, changed, *serving}, return_when="FIRST_COMPLETED")
                for task in filter(asyncio.Task.done, serving):
                    task.result()  # its error
        finally:
            await stop({*serving, store.reading})
            store.writer.close()


async def stop(tasks: set[asyncio.Task[object]]) -> None:
    """Cancel tasks, and wait for them to clean up."""
    while tasks:
        task = tasks.pop()
        task.cancel()
        await asyncio.wait([task])


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Serve the console of a guest, until Ctrl-].")
    parser.add_argument("name", help="the guest's name")
    options = parser.parse_args()
    terminal = termios.tcgetattr(0) if sys.stdin.isatty() else None
    if terminal:
        tty.setraw(0)
    try:
        asyncio.run(main(options.name))
    except KeyboardInterrupt:
        sys.exit(130)
    except OSError as error:
        sys.exit("\n".join([str(error), *getattr(error, "__notes__", ())]))
    finally:
        if terminal:
            termios.tcsetattr(0, termios.TCSADRAIN, terminal)

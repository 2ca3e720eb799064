"""A console backend: what xenconsoled does, for one guest, in a terminal.

It maps the page that the guest shares for its console, connects to the port that the guest offers,
shows what the guest prints and sends what is typed. The other end is Linux's own hvc_xen, or what
else the guest has for a console. The guest is found by its name in XenStore, and found again
after a save and a restore, or a reboot: then it has another domid. A pause and a checkpoint change
nothing.

In dom0, as root; xenconsoled must not run, because it connects to each guest:

    python console_backend.py NAME          # Ctrl-] ends it, and leaves the guest alone

Each index of the ring is a 32-bit word that one end alone writes. Who adds data writes the data,
then the index, and then notifies: who is woken sees all of it. Who takes data reads the index, then
the data, then writes its own index, and notifies: the other end may wait for room. An index has to
be written in one piece: a memoryview of "I" does that, struct writes a byte at a time. There is no
barrier between the steps: x86 keeps their order, elsewhere the system calls around them do.
"""

import asyncio
import fcntl
import mmap
import struct
import sys
import termios
import tty
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pyxenevtchn import AsyncEventChannel, EventChannel

# Of Linux's <xen/gntdev.h>: map one grant, {count, padding, index, domid, reference}.
MAP_GRANT_REF = 0x184700
GRANT = struct.Struct("=IIQII")
CONSOLE_GRANT = 0  # GNTTAB_RESERVED_CONSOLE: the toolstack grants the page to dom0 by it

# struct xencons_interface of Xen's <io/console.h>: the words are those of the indices.
TO_GUEST, FROM_GUEST = range(1024), range(1024, 3072)
TO_GUEST_TAKEN, TO_GUEST_ADDED, FROM_GUEST_TAKEN, FROM_GUEST_ADDED = range(768, 772)

# Of Xen's <io/xs_wire.h>: a message is {type, request, transaction, length} and its strings.
MESSAGE = struct.Struct("=IIII")
DIRECTORY, READ, WATCH, WRITE, WATCH_EVENT, ERROR = 1, 2, 4, 11, 15, 16
XENSTORE = "/run/xenstored/socket"

WORD = 1 << 32
ESCAPE = b"\x1d"  # Ctrl-]


class XenStore:
    """A connection to xenstored. ``changed`` is set when something that is watched has changed."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.changed = asyncio.Event()
        self._writer = writer
        self._answers: asyncio.Queue[list[str] | None] = asyncio.Queue()
        self._reading = asyncio.create_task(self._read(reader))

    async def ask(self, kind: int, *words: str) -> list[str] | None:
        """Make a request; return the strings of the answer, or None for an error."""
        body = "\0".join(words).encode() + (b"" if kind == WRITE else b"\0")
        self._writer.write(MESSAGE.pack(kind, 0, 0, len(body)) + body)
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


class Console:
    """The console of a guest whose page is mapped."""

    def __init__(self, page: mmap.mmap, words: memoryview, typed: bytearray) -> None:
        self._page = page
        self._words = words
        self._typed = typed

    def turn(self) -> bool:
        """Show what the guest has printed, send what was typed; tell whether to notify it."""
        words = self._words
        added, taken = words[FROM_GUEST_ADDED], words[FROM_GUEST_TAKEN]
        # A guest can write anything there; more than fits into the ring makes no sense.
        printed = (added - taken) % WORD if (added - taken) % WORD <= len(FROM_GUEST) else 0
        sys.stdout.buffer.write(bytes(self._bytes(FROM_GUEST, taken, printed)))
        sys.stdout.buffer.flush()
        words[FROM_GUEST_TAKEN] = added

        added = words[TO_GUEST_ADDED]
        room = len(TO_GUEST) - (added - words[TO_GUEST_TAKEN]) % WORD
        sent = min(len(self._typed), max(room, 0))
        for place in range(sent):
            self._page[TO_GUEST[(added + place) % len(TO_GUEST)]] = self._typed[place]
        words[TO_GUEST_ADDED] = (added + sent) % WORD
        del self._typed[:sent]
        return bool(printed or sent)

    def _bytes(self, ring: range, start: int, count: int) -> Iterator[int]:
        return (self._page[ring[place % len(ring)]] for place in range(start, start + count))


@contextmanager
def mapped(domid: int, typed: bytearray) -> Iterator[Console]:
    """Map a guest's console page. While it is mapped, Xen keeps what is left of a dead guest."""
    with Path("/dev/xen/gntdev").open("r+b", buffering=0) as grants:
        grant = bytearray(GRANT.pack(1, 0, 0, domid, CONSOLE_GRANT))
        fcntl.ioctl(grants, MAP_GRANT_REF, grant)
        offset = GRANT.unpack(grant)[2]
        with (
            mmap.mmap(grants.fileno(), mmap.PAGESIZE, offset=offset) as page,
            memoryview(page).cast("I") as words,
        ):
            yield Console(page, words, typed)


async def serve(domid: int, offered: int, typed: bytearray, more: asyncio.Event) -> None:
    """Be the console of a domain until the task is cancelled."""
    with mapped(domid, typed) as console:
        async with AsyncEventChannel(EventChannel.open()) as channel:
            port = channel.bind_interdomain(domid, offered)

            def turn() -> None:
                if console.turn():
                    channel.notify(port)

            async def send() -> None:
                while await more.wait():
                    more.clear()
                    turn()

            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(send())
                # The first event is one that nobody sent: what was printed before is shown.
                async for _ in channel.events():
                    turn()


async def read_keyboard(typed: bytearray, more: asyncio.Event) -> None:
    """Collect what is typed, until Ctrl-] or the end of the input."""
    reader = asyncio.StreamReader()
    protocol = asyncio.StreamReaderProtocol(reader)
    await asyncio.get_running_loop().connect_read_pipe(lambda: protocol, sys.stdin)
    while (text := await reader.read(len(TO_GUEST))) and ESCAPE not in text:
        typed += text
        more.set()


async def main(name: str) -> None:
    """Serve the guest of that name, whichever domain it is."""
    store = XenStore(*await asyncio.open_unix_connection(XENSTORE))
    await store.ask(WATCH, "/local/domain", "")
    typed, more = bytearray(), asyncio.Event()
    keyboard: asyncio.Task[object] = asyncio.create_task(read_keyboard(typed, more))
    served = None
    tasks: set[asyncio.Task[object]] = {keyboard}
    while not keyboard.done():
        store.changed.clear()
        found = await store.console_of(name)
        if found != served:
            for task in tasks - {keyboard}:
                task.cancel()
            served, tasks = found, {keyboard}
            if found:
                tasks.add(asyncio.create_task(serve(*found, typed, more)))
                # xl waits for it: so it knows that there is a console.
                await store.ask(WRITE, f"/local/domain/{found[0]}/console/tty", "/dev/null")
        changed: asyncio.Task[object] = asyncio.create_task(store.changed.wait())
        done, _ = await asyncio.wait({changed, *tasks}, return_when=asyncio.FIRST_COMPLETED)
        for task in done:
            task.result()  # or its error


if __name__ == "__main__":
    terminal = sys.stdin.isatty() and termios.tcgetattr(0)
    if terminal:
        tty.setraw(0)
    try:
        asyncio.run(main(sys.argv[1]))
    except KeyboardInterrupt:
        sys.exit(130)
    except OSError as error:
        sys.exit("\n".join([str(error), *getattr(error, "__notes__", ())]))
    finally:
        if terminal:
            termios.tcsetattr(0, termios.TCSADRAIN, terminal)

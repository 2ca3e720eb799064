"""When a domain's kernel hears of its events: at once, by hand, or in any order that Xen allows.

Pure: no descriptor, no thread, no I/O.
"""

from collections.abc import Callable, Iterator
from random import Random
from typing import Protocol

from .irqs import File
from .xen import Evtchn


class Queue(Protocol):
    """The events that a kernel has not seen yet (see event_queues)."""

    def link(self, evtchn: Evtchn) -> None:
        """Put an event in."""

    def unlink(self, evtchn: Evtchn) -> None:
        """Take an event out, whichever it is."""

    def drain(self) -> Iterator[Evtchn]:
        """Take the events out, in the ABI's order."""


class Delivery:
    """Events come when ``deliver`` says so: "manual".

    Args:
        interrupt: runs the interrupt of an event; returns whether it was an open file's.
        queue: where they wait.
    """

    def __init__(self, interrupt: Callable[[Evtchn], bool], queue: Queue) -> None:
        self.paused: bool = False
        self._interrupt = interrupt
        self._queue = queue

    def upcall(self) -> Callable[[Evtchn], object]:
        """Return what Xen is to call with an event that has become deliverable."""
        return self._queue.link

    def pause(self) -> None:
        """Have events wait, for the domain does not run; ask for the ``upcall`` again."""
        self.paused = True

    def resume(self) -> None:
        """Go on; ask for the ``upcall`` again."""
        self.paused = False

    def deliver(self, most: int | None) -> int:
        """Run the interrupts of waiting events, of so many for files at most; return how many."""
        count = 0
        if self.paused or most == 0:
            return count
        for evtchn in self._queue.drain():
            if _deliverable(evtchn):
                count += self._interrupt(evtchn)
            if count == most:
                break
        return count

    def settle(self, file: File) -> None:
        """Make up what has happened, before a call of a file looks."""

    def promise(self, file: File) -> None:
        """Show a file, whose ring is empty, that an event comes."""

    def forget(self, file: File) -> None:
        """Let a file go that has been closed."""


class Immediate(Delivery):
    """Events come before the call that sent them returns: "immediate"."""

    def upcall(self) -> Callable[[Evtchn], object]:
        """Return what Xen is to call with an event that has become deliverable."""
        return self._queue.link if self.paused else self._interrupt

    def resume(self) -> None:
        """Go on; ask for the ``upcall`` again."""
        super().resume()
        self.deliver(None)


class Shuffled(Delivery):
    """Events come in any order, together or apart: "shuffled".

    A file's descriptor shows at once that something has come; what that was, and what else, is
    decided when the file is looked at. So everything that is seen is what several vCPUs could have
    done, and no reader waits forever.

    Args:
        interrupt: runs the interrupt of an event; returns whether it was an open file's.
        queue: where they are meanwhile, for Xen; and in what order, while the domain is paused.
        holder: tells which open file an event is for, if any.
        random: decides.
    """

    def __init__(
        self,
        interrupt: Callable[[Evtchn], bool],
        queue: Queue,
        holder: Callable[[Evtchn], File | None],
        random: Random,
    ) -> None:
        super().__init__(interrupt, queue)
        self._holder = holder
        self._random = random
        self._waiting: dict[File, list[Evtchn]] = {}

    def upcall(self) -> Callable[[Evtchn], object]:
        """Return what Xen is to call with an event that has become deliverable."""
        return self._queue.link if self.paused else self._arrive

    def resume(self) -> None:
        """Go on; ask for the ``upcall`` again."""
        super().resume()
        for evtchn in list(self._queue.drain()):
            if _deliverable(evtchn):
                self._arrive(evtchn)

    def deliver(self, most: int | None) -> int:
        """Run the interrupts of waiting events, of so many for files at most; return how many."""
        count = 0
        for file in list(self._waiting):
            left = None if most is None else most - count
            count += self._run(file, left)
        return count

    def settle(self, file: File) -> None:
        """Run the interrupts of some of a file's events; of one at least, where that was shown."""
        waiting = self._waiting.get(file)
        if waiting:
            least = 1 if file.readable and not file.holds_events else 0
            self._run(file, self._random.randint(least, len(waiting)))

    def promise(self, file: File) -> None:
        """Show a file, whose ring is empty, that an event comes."""
        if any(map(_deliverable, self._waiting.get(file, ()))):
            file.show_readable()

    def forget(self, file: File) -> None:
        """Let a file go that has been closed."""
        for evtchn in self._waiting.pop(file, ()):
            self._queue.unlink(evtchn)

    def _arrive(self, evtchn: Evtchn) -> None:
        file = self._holder(evtchn)
        if file is None:
            self._interrupt(evtchn)
        else:
            self._queue.link(evtchn)
            self._waiting.setdefault(file, []).append(evtchn)
            file.show_readable()

    def _run(self, file: File, most: int | None) -> int:
        waiting = self._waiting.pop(file, [])
        self._random.shuffle(waiting)
        later = []
        count = 0
        for evtchn in waiting:
            if _deliverable(evtchn) and count == most:
                later.append(evtchn)
                continue
            self._queue.unlink(evtchn)
            if _deliverable(evtchn):
                count += self._interrupt(evtchn)
        if later:
            self._waiting[file] = later
        return count


def _deliverable(evtchn: Evtchn) -> bool:
    # One that was closed or let go meanwhile is masked.
    return evtchn.pending and not evtchn.masked

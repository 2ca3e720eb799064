"""When a domain's kernel takes its events: at once, on request, or in any order that Xen allows.

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
        """Add an event."""

    def unlink(self, evtchn: Evtchn) -> None:
        """Remove an event."""

    def drain(self) -> Iterator[Evtchn]:
        """Remove the events one by one, in the ABI's order."""


class Delivery:
    """Delivery "manual": events wait until ``deliver`` is called.

    Args:
        interrupt: runs the interrupt of an event; returns whether an open file got it.
        queue: where the events wait.
    """

    def __init__(self, interrupt: Callable[[Evtchn], bool], queue: Queue) -> None:
        self.paused: bool = False
        self._interrupt = interrupt
        self._queue = queue

    def upcall(self) -> Callable[[Evtchn], object]:
        """Return the function that Xen calls with an event that becomes deliverable."""
        return self._queue.link

    def pause(self) -> None:
        """Hold events back while the domain is paused. Then ``upcall`` returns another function."""
        self.paused = True

    def resume(self) -> None:
        """Take events again. Then ``upcall`` returns another function."""
        self.paused = False

    def deliver(self, most: int | None) -> int:
        """Run waiting interrupts, at most ``most`` of files; return how many were for files."""
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
        """Decide which of a file's events have arrived, before a call of the file."""

    def show_waiting(self, file: File) -> None:
        """Make a file with an empty ring readable if an event waits for it."""

    def forget(self, file: File) -> None:
        """Drop the waiting events of a closed file."""


class Immediate(Delivery):
    """Delivery "immediate": events arrive before the call that sent them returns."""

    def upcall(self) -> Callable[[Evtchn], object]:
        """Return the function that Xen calls with an event that becomes deliverable."""
        return self._queue.link if self.paused else self._interrupt

    def resume(self) -> None:
        """Take events again, the waiting ones first."""
        super().resume()
        self.deliver(None)


class Shuffled(Delivery):
    """Delivery "shuffled": events arrive in any order, together or one by one.

    A file's descriptor becomes readable at once; which events have arrived is decided at the next
    call of the file. So each result is one that several vCPUs could produce, and no reader waits
    forever.

    Args:
        interrupt: runs the interrupt of an event; returns whether an open file got it.
        queue: the waiting events as Xen knows them; their order counts while the domain is paused.
        holder: returns the open file that an event is for, if any.
        random: makes the decisions.
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
        """Return the function that Xen calls with an event that becomes deliverable."""
        return self._queue.link if self.paused else self._arrive

    def resume(self) -> None:
        """Take events again, the waiting ones first."""
        super().resume()
        for evtchn in list(self._queue.drain()):
            if _deliverable(evtchn):
                self._arrive(evtchn)

    def deliver(self, most: int | None) -> int:
        """Run waiting interrupts, at most ``most`` of files; return how many were for files."""
        count = 0
        for file in list(self._waiting):
            left = None if most is None else most - count
            count += self._run(file, left)
        return count

    def settle(self, file: File) -> None:
        """Run the interrupts of some of a file's events: of at least one if it is readable."""
        waiting = self._waiting.get(file)
        if waiting:
            least = 1 if file.readable and not file.holds_events else 0
            self._run(file, self._random.randint(least, len(waiting)))

    def show_waiting(self, file: File) -> None:
        """Make a file with an empty ring readable if an event waits for it."""
        if any(map(_deliverable, self._waiting.get(file, ()))):
            file.show_readable()

    def forget(self, file: File) -> None:
        """Drop the waiting events of a closed file."""
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
    # A port that was closed or unbound meanwhile is masked.
    return evtchn.pending and not evtchn.masked

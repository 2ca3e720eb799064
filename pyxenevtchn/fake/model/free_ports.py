"""The number of a domain's next port (Xen's get_free_port and evtchn_allocate_port)."""

import errno
import heapq
import itertools
from collections.abc import Container

from .failure import fail


class FreePorts:
    """The free port numbers of a domain. The lowest is allocated next.

    Args:
        highest: the highest number that a port of the domain can have.

    Attributes:
        linked: the numbers in a queue of the FIFO ABI, those of closed ports too: none is
            allocated before the kernel has taken it out (evtchn_fifo_is_busy).
    """

    def __init__(self, highest: int) -> None:
        self.linked: Container[int] = ()
        self._highest = highest
        # The lowest free number is the lowest of the freed ones, else the first unused one. Each is
        # taken in one step, as a signal handler may run between two.
        self._freed: list[int] = []
        self._fresh = itertools.count(1)
        self._busy: set[int] = set()

    def take(self) -> int:
        """Take the lowest number, and return it.

        Raises:
            OSError: ENOSPC, none is free.
        """
        try:
            return heapq.heappop(self._freed)
        except IndexError:
            number = next(self._fresh)
        if number > self._highest:
            fail(errno.ENOSPC)
        return number

    def claim(self, number: int) -> None:
        """Take this number.

        Raises:
            OSError: ENOSPC, it is too high for the domain; EBUSY, it is not free.
        """
        if number > self._highest:
            fail(errno.ENOSPC)
        next_fresh = next(self._fresh)
        for passed in range(next_fresh, number + 1):
            heapq.heappush(self._freed, passed)
        self._fresh = itertools.count(max(next_fresh, number + 1))
        if number not in self._freed:
            fail(errno.EBUSY)
        self._freed.remove(number)
        heapq.heapify(self._freed)

    def give_back(self, number: int) -> None:
        """Make a number free again."""
        if number in self.linked:
            self._busy.add(number)
        else:
            heapq.heappush(self._freed, number)

    def unlinked(self, number: int) -> None:
        """Note that the kernel has taken a number out of its queue."""
        if number in self._busy:
            self._busy.remove(number)
            heapq.heappush(self._freed, number)

"""The order in which a kernel takes its events, by ABI.

Pure: no descriptor, no thread, no I/O.
"""

from collections import OrderedDict
from collections.abc import Iterator

from ...abi import Virq
from .free_ports import FreePorts
from .xen import Evtchn


class FifoQueue:
    """The FIFO ABI's queue of a vCPU: events come in the order in which they were sent.

    A port's number stays linked from the event until the kernel has consumed it, even if the port
    is closed meanwhile (Xen's evtchn_fifo_set_pending, Linux's consume_one_event).
    """

    def __init__(self, free_ports: FreePorts) -> None:
        self._free_ports = free_ports
        self._linked: OrderedDict[int, Evtchn] = OrderedDict()
        free_ports.linked = self._linked

    def link(self, evtchn: Evtchn) -> None:
        """Append an event, unless its port is in the queue."""
        self._linked.setdefault(evtchn.port, evtchn)

    def unlink(self, evtchn: Evtchn) -> None:
        """Remove an event."""
        if self._linked.pop(evtchn.port, None):
            self._free_ports.unlinked(evtchn.port)

    def drain(self) -> Iterator[Evtchn]:
        """Remove the events one by one, oldest first."""
        while self._linked:
            port, evtchn = self._linked.popitem(last=False)
            self._free_ports.unlinked(port)
            yield evtchn


class TwoLevelQueue:
    """The 2-level ABI's bitmap: the kernel scans it in a circle, from the port after the last one.

    The port of VIRQ_TIMER comes first (Linux's evtchn_2l_handle_events).
    """

    def __init__(self) -> None:
        self._selected: dict[int, Evtchn] = {}
        self._next_port = 0

    def link(self, evtchn: Evtchn) -> None:
        """Mark an event's port."""
        self._selected[evtchn.port] = evtchn

    def unlink(self, evtchn: Evtchn) -> None:
        """Remove an event."""
        if self._selected.get(evtchn.port) is evtchn:
            del self._selected[evtchn.port]

    def drain(self) -> Iterator[Evtchn]:
        """Remove the events one by one."""
        for port in sorted(self._selected, key=self._turn):
            evtchn = self._selected.pop(port)
            if evtchn.pending and evtchn.virq != Virq.TIMER:
                self._next_port = port + 1
            yield evtchn

    def _turn(self, port: int) -> tuple[bool, bool, int]:
        is_timer = self._selected[port].virq == Virq.TIMER
        return not is_timer, port < self._next_port, port

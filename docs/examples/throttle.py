"""Keep a guest's event storm from taking all of a program's time.

A port that has delivered an event stays masked until it is unmasked, and what comes meanwhile is
one event. So to throttle a port, delay its unmask: however fast the guest sends, it costs one
wakeup per interval. The last event is never lost, and other ports are served as usual.

Here a thread is the guest, and notifies a port of this process. On a dom0 or domU, as root:

    python throttle.py

On the fake:

    XENEVTCHN_DEVICE=fake: python throttle.py
"""

import argparse
import sys
import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

from pyxenevtchn import DOMID_SELF, EventChannel, RingOverflow


class Throttle:
    """Let each port of a handle deliver once in ``interval`` seconds."""

    def __init__(self, channel: EventChannel, interval: float) -> None:
        self.interval = interval
        self._channel = channel
        self._held: dict[int, float] = {}  # the masked ports, and when to unmask each

    def hold(self, ports: Iterable[int]) -> None:
        """Delay the unmask of ports whose events have been handled."""
        self._held |= dict.fromkeys(ports, time.monotonic() + self.interval)

    def release(self) -> float | None:
        """Unmask the ports that are due; return the seconds until the next one is, or None."""
        now = time.monotonic()
        due = [port for port, when in self._held.items() if when <= now]
        self._channel.unmask(due)
        for port in due:
            del self._held[port]
        return min(self._held.values()) - now if self._held else None


def handle_events(channel: EventChannel, throttle: Throttle, seconds: float) -> int:
    """Handle events for some seconds; return how many came. Copy this loop."""
    handled = 0
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        try:
            ports = channel.wait(throttle.release())
        except RingOverflow:
            # Each port may have lost an event: handle them all as if it had come.
            ports = list(channel.recover())
        handled += len(ports)  # the work for each port is done here, before it is held
        throttle.hold(ports)
    return handled


@contextmanager
def storm(victim: EventChannel) -> Iterator[None]:
    """Notify a port of the victim as fast as possible."""
    over = threading.Event()
    with EventChannel.open() as guest:
        port = guest.bind_interdomain(DOMID_SELF, victim.bind_unbound_port(DOMID_SELF))

        def notify() -> None:
            while not over.is_set():
                guest.notify(port)

        thread = threading.Thread(target=notify)
        thread.start()
        try:
            yield
        finally:
            over.set()
            thread.join()


def main() -> None:
    """Show the rate of events without the throttle and with it."""
    parser = argparse.ArgumentParser(description="Show what a throttle does to an event storm.")
    parser.add_argument("--limit", type=float, default=10, help="events a second (default: 10)")
    parser.add_argument("--seconds", type=float, default=1, help="for each rate (default: 1)")
    options = parser.parse_args()
    with EventChannel.open() as channel, storm(channel):
        throttle = Throttle(channel, 0)
        for name, throttle.interval in ("without", 0), ("with", 1 / options.limit):
            handled = handle_events(channel, throttle, options.seconds)
            print(f"{name} a throttle: {handled / options.seconds:.0f} events/s", flush=True)


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        sys.exit(130)
    except OSError as error:
        sys.exit("\n".join([str(error), *getattr(error, "__notes__", ())]))

"""Replace a running program by its next version, and go on with the same ports and events.

The descriptor is the handle: open over an exec, it keeps its ports, and events that come meanwhile
wait in its ring. The old version passes on what the driver does not tell: the descriptor's number
and how the ports were bound, here in the environment. Events that it has read are only in its
memory, so it handles them and unmasks their ports before the exec.

This program updates itself twice, and each time leaves events in the ring on purpose. At the end it
counts: none was lost, none came twice. A service would update itself on SIGHUP, for example. On a
dom0 or domU, as root:

    python live_update.py

On the fake, which ends with its process; there the next version runs in the same one:

    XENEVTCHN_DEVICE=fake: python live_update.py
"""

import json
import os
import sys

from pyxenevtchn import DOMID_SELF, Binding, EventChannel, Request, RingOverflow

PORTS = 4
VERSIONS = 3
HANDOVER = "LIVE_UPDATE_HANDOVER"


def hand_over(channel: EventChannel, state: dict[str, int]) -> None:
    """Start the next version. All events that were read must be handled and unmasked."""
    fd = os.dup(channel.fileno())
    os.environ[HANDOVER] = json.dumps([fd, dict(channel.bindings), state])
    if os.environ.get("XENEVTCHN_DEVICE", "").startswith("fake:"):
        main()
    else:
        os.set_inheritable(fd, True)
        os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])


def take_over(handover: str) -> tuple[EventChannel, dict[str, int]]:
    """Continue the work of the previous version."""
    fd, bindings, state = json.loads(handover)
    os.set_inheritable(fd, False)  # for no other program than the next version
    # The handle knows only these bindings, and recover() uses them.
    known = {int(port): Binding(Request(how), *rest) for port, (how, *rest) in bindings.items()}
    return EventChannel.from_fd(fd, bindings=known), state


def start() -> tuple[EventChannel, dict[str, int]]:
    """Start as the first version: bind some pairs, both ends on this handle."""
    channel = EventChannel.open()
    for _ in range(PORTS):
        channel.bind_interdomain(DOMID_SELF, channel.bind_unbound_port(DOMID_SELF))
        channel.unmask(channel.wait(timeout=10))  # the event that a connection starts with
    return channel, {"version": 1, "sent": 0, "handled": 0}


def handle(channel: EventChannel, state: dict[str, int], timeout: float) -> None:
    """Handle events by whole batches, until all have come or the timeout is over."""
    ports: list[int] = []
    while state["handled"] < state["sent"]:
        try:
            ports = channel.wait(timeout, unmask=ports)
        except RingOverflow:
            ports = list(channel.recover())  # each may have lost one: count it
        if not ports:
            break
        state["handled"] += len(ports)
    channel.unmask(ports)


def main() -> None:
    """Run one version."""
    handover = os.environ.pop(HANDOVER, None)
    channel, state = take_over(handover) if handover else start()
    with channel:
        print(f"version {state['version']} has {len(channel.bindings)} ports", flush=True)
        handle(channel, state, timeout=10)
        if state["version"] < VERSIONS:
            senders = [port for port, how in channel.bindings.items() if how.remote_port is None]
            state["sent"] += channel.notify_many(senders)
            state["version"] += 1
            hand_over(channel, state)
        else:
            state["handled"] += len(channel.wait(timeout=0.5))  # duplicates, if any
            print(f"sent {state['sent']}, handled {state['handled']}", flush=True)


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        sys.exit(130)
    except OSError as error:
        sys.exit("\n".join([str(error), *getattr(error, "__notes__", ())]))

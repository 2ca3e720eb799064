"""Replace a running program by its next version, and go on with the same ports and events.

The descriptor is the handle: open over an exec, it keeps its ports, and events that come meanwhile
wait in its ring. What the driver does not tell, the descriptor's number and how the ports were
bound, the old version passes on, here in the environment. What it has read it has to handle, and
unmask, before it goes: that is in its memory alone.

This program updates itself twice, and each time leaves events behind on purpose. In the end it
counts: none was lost, none came twice. A service would do so at a SIGHUP, say. On a dom0 or domU,
as root:

    python live_update.py

On the fake, which ends with its process, so that the next version is called in the same one:

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
    """Have the next version go on. Nothing that was read may be unhandled or masked now."""
    fd = os.dup(channel.fileno())
    os.environ[HANDOVER] = json.dumps([fd, dict(channel.bindings), state])
    if os.environ.get("XENEVTCHN_DEVICE", "").startswith("fake:"):
        main()
    else:
        os.set_inheritable(fd, True)
        os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])


def take_over(handover: str) -> tuple[EventChannel, dict[str, int]]:
    """Go on where the version before left off."""
    fd, bindings, state = json.loads(handover)
    os.set_inheritable(fd, False)  # for no other program than the next version
    # The handle knows only the bindings that it is told: recover() goes by them.
    known = {int(port): Binding(Request(how), *rest) for port, (how, *rest) in bindings.items()}
    return EventChannel.from_fd(fd, bindings=known), state


def start() -> tuple[EventChannel, dict[str, int]]:
    """Begin as the first version: bind some pairs, of which each end is here."""
    channel = EventChannel.open()
    for _ in range(PORTS):
        channel.bind_interdomain(DOMID_SELF, channel.bind_unbound_port(DOMID_SELF))
        channel.unmask(channel.wait(timeout=10))  # the event that a connection starts with
    return channel, {"version": 1, "sent": 0, "handled": 0}


def handle(channel: EventChannel, state: dict[str, int], timeout: float) -> None:
    """Handle what comes, by whole batches, until all is here or nothing more comes."""
    ports: list[int] = []
    while state["handled"] < state["sent"]:
        try:
            ports = channel.wait(timeout, unmask=ports)
        except RingOverflow:
            ports = list(channel.recover())  # each may have lost an event: as if it had come
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
            state["handled"] += len(channel.wait(timeout=0.5))  # what has come twice
            print(f"sent {state['sent']}, handled {state['handled']}", flush=True)


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        sys.exit(130)
    except OSError as error:
        sys.exit("\n".join([str(error), *getattr(error, "__notes__", ())]))

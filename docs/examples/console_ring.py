"""Say when Xen writes to its console.

VIRQ_CON_RING tells that there is something new in the console ring, and no more: `xl dmesg` shows
what it is. Each line that Xen prints raises it; those that come while one is being worked on are
one event.

On a dom0, as root, with a line of Xen's own caused by a debug key:

    python console_ring.py
    xl debug-keys h                                              # in another terminal

On the fake, where the second and the third are in terminals of their own:

    xenevtchn fake serve --socket /tmp/xen
    XENEVTCHN_DEVICE=fake:unix:/tmp/xen python console_ring.py
    xenevtchn fake raise-virq CON_RING --socket /tmp/xen
"""

import sys
from datetime import datetime

from pyxenevtchn import EventChannel, Virq

HELD = """\
Either leave it to xenconsoled and follow what that writes, /var/log/xen/console/hypervisor.log,
or have it log the guests alone: restart it with --log=guest, and the VIRQ is free."""


def bind(channel: EventChannel) -> None:
    """Bind the VIRQ, or say what to do where somebody else has it."""
    try:
        channel.bind_virq(Virq.CON_RING)
    except FileExistsError as error:
        error.add_note(HELD)
        raise


def report(*_lost: object) -> None:
    """Say that there is something new. After an overflow too: an event may have been lost."""
    now = datetime.now().astimezone()
    print(f"{now:%H:%M:%S} Xen wrote to its console: see `xl dmesg`", flush=True)


def main() -> None:
    """Watch until Ctrl-C."""
    with EventChannel.open() as channel:
        bind(channel)
        print("watching Xen's console", flush=True)
        # The loop unmasks the port after its body, so the next event comes after the report.
        for _port in channel.events(on_overflow=report):
            report()


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        sys.exit(130)
    except OSError as error:
        sys.exit("\n".join([str(error), *getattr(error, "__notes__", ())]))

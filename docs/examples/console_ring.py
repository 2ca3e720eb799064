"""Report when Xen writes to its console.

VIRQ_CON_RING only says that the console ring has something new: `xl dmesg` shows what it is. Xen
raises it for each line that it prints; lines that come while the port is masked are one event.

On a dom0, as root; a debug key makes Xen print something:

    python console_ring.py
    xl debug-keys h                                              # in another terminal

On the fake, each in a terminal of its own:

    xenevtchn fake serve --socket /tmp/xen
    XENEVTCHN_DEVICE=fake:unix:/tmp/xen python console_ring.py
    xenevtchn fake raise-virq CON_RING --socket /tmp/xen
"""

import sys
from datetime import datetime

from pyxenevtchn import EventChannel, Virq

HELD = """\
Either follow what xenconsoled writes, /var/log/xen/console/hypervisor.log,
or restart it with --log=guest: it then logs only the guests, and the VIRQ is free."""


def bind(channel: EventChannel) -> None:
    """Bind the VIRQ; if another process has it, say what to do."""
    try:
        channel.bind_virq(Virq.CON_RING)
    except FileExistsError as error:
        error.add_note(HELD)
        raise


def report(*_lost: object) -> None:
    """Report something new. After an overflow too: an event may have been lost."""
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

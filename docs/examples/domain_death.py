"""Report when a domain shuts down or dies.

VIRQ_DOM_EXC does not say which domain it is: compare what `xl list` shows, or what the toolstack's
library returns, before and after. A domain that dies can raise it more than once.

On a dom0 with a toolstack, xenstored has the VIRQ and passes it on: this program then fails, and
says what to watch instead. It is for a dom0 without xenstored: one with a small toolstack of your
own, or one whose xenstored runs in its own domain.

On a dom0, as root:

    python domain_death.py

On the fake, the last two each in a terminal of its own:

    xenevtchn fake serve --socket /tmp/xen &
    xenevtchn fake create-domain 7 --socket /tmp/xen
    XENEVTCHN_DEVICE=fake:unix:/tmp/xen python domain_death.py
    xenevtchn fake destroy-domain 7 --socket /tmp/xen
"""

import sys
from datetime import datetime

from pyxenevtchn import EventChannel, Virq

HELD = """\
With a toolstack, xenstored has it, and fires the watches on the special path
@releaseDomain: `xenstore-watch @releaseDomain` writes a line now and one for each domain that shuts
down or dies; in a program, xs_watch() of libxenstore. `xl list` then shows which are left."""


def bind(channel: EventChannel) -> None:
    """Bind the VIRQ; if another process has it, say what to do."""
    try:
        channel.bind_virq(Virq.DOM_EXC)
    except FileExistsError as error:
        error.add_note(HELD)
        raise


def report(*_lost: object) -> None:
    """Report that a domain is gone. After an overflow too: an event may have been lost."""
    now = datetime.now().astimezone()
    print(f"{now:%H:%M:%S} a domain shut down or died: see `xl list`", flush=True)


def main() -> None:
    """Watch until Ctrl-C."""
    with EventChannel.open() as channel:
        bind(channel)
        print("watching the domains", flush=True)
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

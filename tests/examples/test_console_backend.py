"""console_backend.py instead of xenconsoled; the frontend is in the guest's own kernel."""

import subprocess
import sys
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import NoReturn

import pytest

from ..command import Running, running
from ..real_guest import SharedGuest, running_guest
from .programs import EXAMPLES

pytestmark = [pytest.mark.backends("real"), pytest.mark.only("dom0")]


def console(name: str) -> AbstractContextManager[Running]:
    program = EXAMPLES / "console_backend.py"
    arguments = ("-W", "error", program, name)
    return running(
        *arguments, device="/dev/xen/evtchn", program=sys.executable, stdin=subprocess.PIPE
    )


@pytest.mark.usefixtures("backend")
def test_a_guest_is_spoken_with_whatever_happens_to_it(
    shared_guest: SharedGuest, unavailable: Callable[[str], NoReturn]
) -> None:
    # The process in the guest reads commands from its console and writes answers to it.
    with running_guest(shared_guest.kind, unavailable, console=console) as guest:
        assert guest.call("domain_exists", 0) is True
        guest.undergo("pause")
        guest.undergo("unpause")
        assert guest.call("domain_exists", 0) is True
        guest.undergo("checkpoint")
        # Longer than the console's rings, in both directions.
        numbers = list(range(1000))
        assert guest.call("echo", *numbers) == numbers
        domid = guest.domid
        guest.undergo("save")
        guest.undergo("restore")
        assert guest.domid != domid
        assert guest.call("domain_exists", 0) is True
        domid = guest.domid
        guest.reboot()
        assert guest.domid != domid
        assert guest.call("domain_exists", 0) is True

"""How the models fail: with an errno, as a call of the system does; or as a kernel that crashes."""

import os
from typing import NoReturn


class KernelBug(Exception):
    """A real Linux would have hit a BUG, or been torn from under its own feet, at this call.

    No program does that on purpose: on a real machine the process gets SIGSEGV or hangs, and the
    domain may go down with it. The message names the function and what went before.
    """


def fail(number: int) -> NoReturn:
    """Fail with an errno."""
    raise OSError(number, os.strerror(number))

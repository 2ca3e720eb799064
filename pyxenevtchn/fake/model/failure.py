"""How the models fail: with an errno, as a system call does, or with a kernel's crash."""

import os
from typing import NoReturn


class KernelBug(Exception):
    """A real Linux would have hit a BUG, or torn down its own interrupt, at this call.

    On a real machine the process gets SIGSEGV or hangs, and the domain may crash. The message
    names the kernel's function and the cause.
    """


def fail(number: int) -> NoReturn:
    """Raise the OSError of an errno."""
    raise OSError(number, os.strerror(number))

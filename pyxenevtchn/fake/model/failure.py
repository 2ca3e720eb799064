"""How the models fail: with an errno, as a system call does, or with a kernel's crash."""

import os
from typing import NoReturn


class KernelBug(Exception):
    """A real Linux would have hit a BUG, or torn down its own interrupt, at this call.

    On a real machine the process gets SIGSEGV or hangs, and the domain may crash. The message
    names the kernel's function and the cause.
    """


class Refusal(OSError):
    """An errno that the driver, its kernel or Xen answers with.

    A class of its own: an OSError of a signal handler that runs in a model is no answer of it.
    """


def fail(number: int) -> NoReturn:
    """Raise the Refusal of an errno."""
    raise Refusal(number, os.strerror(number))

"""Xen's own toolstack, in a dom0."""

import os
import signal
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NoReturn

# Of any version: the programs of the path are wrappers on Debian, which insist on tools of the
# running hypervisor's version.
_PROGRAMS = Path("/usr/lib")


def press_debug_key(unavailable: Callable[[str], NoReturn]) -> None:
    """Have Xen print to its console ring."""
    subprocess.run([_program("xl", unavailable), "debug-keys", "h"], check=True, timeout=60)


@contextmanager
def xenstored(unavailable: Callable[[str], NoReturn]) -> Iterator[None]:
    """Run xenstored for as long as the context lasts."""
    program = _program("xenstored", unavailable)
    for needed in ("/run/xen", "/run/xenstored", "/var/lib/xenstored"):
        Path(needed).mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory() as folder:
        pid_file = Path(folder, "pid")
        # It goes into the background once it has bound what it binds.
        subprocess.run([program, "--pid-file", pid_file], check=True, timeout=60)
        try:
            yield
        finally:
            os.kill(int(pid_file.read_text()), signal.SIGKILL)


def _program(name: str, unavailable: Callable[[str], NoReturn]) -> Path:
    found = sorted(_PROGRAMS.glob(f"xen-*/bin/{name}"))
    if not found:
        unavailable(f"{name} is not installed: it is in Debian's xen-utils-4.17")
    return found[-1]

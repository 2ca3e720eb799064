"""The command line of xenvm."""

import argparse
import os
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from types import FrameType

from . import arm64, kinds, programs, x86
from .domain import Job
from .errors import Failure
from .listing import List
from .progress import say

_WARNED = 123

_DESCRIPTION = """\
Run a command as root in dom0 of a real Xen, or with --guest in a guest of it. All of that runs in
QEMU (no KVM, no root needed).

The domain's root is this machine's own, at the same paths: what the command writes there is gone
when it ends, but for the directory of --share. The command starts in the current directory, with
PATH, HOME, LANG, TERM, CI and the variables XENEVTCHN_*, PY* and HYPOTHESIS_* of this environment.

On arm64 the root is a Debian of its own, with the checkout that xenvm is in at the same path. Its
.venv and its compiled module are made for arm64 there; python3, too, has what .venv has.
"""

_EPILOG = """\
exit status: the command's (128+N where signal N ended it), or
  122  the machine died while the command ran
  123  the command succeeded, but Xen or the kernel warned (--fail-on-warnings)
  124  the time limit was reached
  125  the command was never started: something is missing, or the machine died in each of its boots
  130, 143  xenvm was interrupted (SIGINT) or ended (SIGTERM), and the machine with it

Kernels, hypervisors, tools and arm64's root are Debian's, fetched when first needed. They are kept
in $XDG_CACHE_HOME/pyxenevtchn/xenvm (else ~/.cache/...): remove that directory to fetch newer ones.
A kernel takes 120 to 460 MB of the disk, Xen's tools 180 to 240, arm64's root 430; to fetch and to
unpack them takes half a minute each. To the command it is 5 to 15 seconds, in a guest 20 to 30.
On a machine with no apt source of Debian, XENVM_DEBIAN_MIRROR is the URI of a mirror of Debian.
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command in a machine and return the exit status."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        # Those that a shell has us ignore, for a job in the background, stay ignored.
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, _end)
    options = _parser().parse_args(arguments)
    try:
        status, warnings = _run(options)
    except BrokenPipeError:
        return 128 + signal.SIGPIPE
    except (Failure, OSError) as failure:
        print(f"xenvm: {failure}", file=sys.stderr)
        return failure.status if isinstance(failure, Failure) else Failure.status
    if warnings:
        print("xenvm: warnings on the console:", *warnings, sep="\n    ", file=sys.stderr)
    return _WARNED if warnings and options.fail_on_warnings and status == 0 else status


def _parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    parser = argparse.ArgumentParser(
        prog="xenvm",
        usage="%(prog)s [option ...] -- COMMAND [ARGUMENT ...]",
        description=_DESCRIPTION,
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    option = parser.add_argument
    option("--list", action=List, nargs=0, help="show what there can be, and what the cache has")
    option("--timeout", type=float, default=600, metavar="S", help="seconds (default: 600)")
    option("--share", type=Path, metavar="DIR", help="a directory that the guest may write to")
    option("--console", type=Path, metavar="FILE", help="keep the log of Xen's and dom0's console")
    option("--fail-on-warnings", action="store_true", help="exit with 123 if Xen or Linux warned")
    option("command", nargs="+", metavar="COMMAND", help="what to run, and its arguments")
    kinds.add_options(parser)
    return parser


def _run(options: argparse.Namespace) -> tuple[int, list[str]]:
    """Fetch what is missing, make the machine and run it."""
    kind = kinds.chosen(options)
    programs.check(kind.architecture)
    if options.share:
        options.share.mkdir(parents=True, exist_ok=True)
    share = options.share and options.share.resolve()
    job = Job(options.command, Path.cwd(), _environment(), share)
    console = options.console and options.console.resolve()
    if kind.architecture == "arm64":
        machine = arm64.machine(kind, job, console)
    else:
        machine = x86.machine(kind, job, programs.find("busybox"), console)
    say(f"booting {kind}")
    return machine.run(options.timeout)


def _environment() -> dict[str, str]:
    """Return what the command gets of this process's environment."""
    names = {"PATH", "HOME", "LANG", "TERM", "CI"}
    prefixes = ("XENEVTCHN_", "PY", "HYPOTHESIS_")
    kept = {k: v for k, v in os.environ.items() if k in names or k.startswith(prefixes)}
    # The command is root, and a normal user's PATH may lack root's programs.
    return kept | {"PATH": f"{os.environ.get('PATH', os.defpath)}:/usr/sbin:/sbin"}


def _end(number: int, _frame: FrameType | None) -> None:
    """Unwind, which ends the machine and removes what is temporary; a second signal waits."""
    for other in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(other, signal.SIG_IGN)
    raise SystemExit(128 + number)

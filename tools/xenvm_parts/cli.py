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
Run a command as root in dom0 of a real Xen, or with --guest in a guest of it. Everything runs in
QEMU; neither KVM nor root is needed.

The domain's root file system is this machine's, at the same paths. What the command writes there is
lost when it ends, except in the directory of --share. The command starts in the current directory,
with PATH, HOME, LANG, TERM, CI and the variables XENEVTCHN_*, PY* and HYPOTHESIS_* of this
environment.

On arm64 the root is a separate Debian, with xenvm's own checkout at the same path. The checkout's
.venv and compiled module are built for arm64 there; python3 finds the packages of .venv too.
"""

_EPILOG = """\
exit status: the command's (128+N if signal N ended it), or
  122  the machine died while the command ran
  123  the command succeeded, but Xen or the kernel warned (--fail-on-warnings)
  124  the time limit was reached
  125  the command did not start: something is missing, or every boot failed
  130, 143  xenvm got SIGINT or SIGTERM, and ended the machine

Kernels, hypervisors, tools and the arm64 root come from Debian. They are fetched when first needed,
and stay in $XDG_CACHE_HOME/pyxenevtchn/xenvm (else ~/.cache/...): remove that directory to fetch
newer ones. A kernel takes 120 to 460 MB on disk, Xen's tools 180 to 240, the arm64 root 430; to
fetch and unpack each takes half a minute. A boot takes 5 to 15 seconds until the command starts, 20
to 30 in a guest. On a machine without a Debian apt source, set XENVM_DEBIAN_MIRROR to the URI of a
Debian mirror.
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command in a machine and return the exit status."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        # A signal that the shell set to ignored, as for a background job, stays ignored.
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
    option("--list", action=List, nargs=0, help="show the possible machines and the cache")
    option("--timeout", type=float, default=600, metavar="S", help="seconds (default: 600)")
    option("--share", type=Path, metavar="DIR", help="a directory that the command can write to")
    option(
        "--copy",
        type=Path,
        metavar="LIST",
        help="a file with the paths of files, one a line, that the guest of --guest gets in its "
        "memory: to open any other takes it up to 0.1 s",
    )
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
    if options.copy and not kind.guest:
        raise Failure("--copy is for a guest: it needs --guest")
    copies = [*map(Path, options.copy.read_text().splitlines())] if options.copy else []
    job = Job(options.command, Path.cwd(), _environment(), share)
    console = options.console and options.console.resolve()
    if kind.architecture == "arm64":
        machine = arm64.machine(kind, job, console)
    else:
        machine = x86.machine(kind, job, programs.find("busybox"), console, copies)
    say(f"booting {kind}")
    return machine.run(options.timeout)


def _environment() -> dict[str, str]:
    """Return the part of this process's environment that the command gets."""
    names = {"PATH", "HOME", "LANG", "TERM", "CI"}
    prefixes = ("XENEVTCHN_", "PY", "HYPOTHESIS_")
    kept = {k: v for k, v in os.environ.items() if k in names or k.startswith(prefixes)}
    # The command is root, and a normal user's PATH may lack root's programs.
    return kept | {"PATH": f"{os.environ.get('PATH', os.defpath)}:/usr/sbin:/sbin"}


def _end(number: int, _frame: FrameType | None) -> None:
    """Unwind: end the machine and remove temporary files. Ignore further signals."""
    for other in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(other, signal.SIG_IGN)
    raise SystemExit(128 + number)

"""A program that a command runs: it gets the signals, and its end is the command's."""

import contextlib
import os
import shutil
import signal
from collections.abc import Mapping

import click

from ...fake import preload
from ...fake.preload.loader import check_preload

# Not passed on: what tells of a fault here, and what stops a terminal's jobs, which is for us too.
_OURS = {
    *(signal.SIGKILL, signal.SIGSTOP, signal.SIGTSTP, signal.SIGTTIN, signal.SIGTTOU),
    *(signal.SIGCONT, signal.SIGILL, signal.SIGTRAP, signal.SIGABRT, signal.SIGBUS),
    *(signal.SIGFPE, signal.SIGSEGV, signal.SIGSYS),
}
_PASSED = signal.valid_signals() - _OURS

# Python ignores these, which a program would inherit.
_IGNORED = (signal.SIGPIPE, signal.SIGXFSZ)


class NotFoundError(click.ClickException):
    """There is no such program; the exit status is the one that a shell has for that."""

    exit_code = 127


class NotRunError(click.ClickException):
    """The program cannot be run; the exit status is the one that a shell has for that."""

    exit_code = 126


def find(name: str) -> str:
    """Return the path of the program that a shell would run by that name.

    Raises:
        NotFoundError: there is none.
    """
    path = name if os.sep in name else shutil.which(name) or shutil.which(name, mode=os.F_OK)
    if path is None:
        raise NotFoundError(f"{name}: no such program is on PATH")
    return path


def check(path: str) -> None:
    """Check that the fake's object will be preloaded into the program, as far as can be known.

    Raises:
        NotRunError: it will not.
    """
    # What cannot be read can be executed, perhaps.
    with contextlib.suppress(OSError):
        try:
            check_preload(path, preload.OBJECT)
        except ValueError as error:
            raise NotRunError(str(error)) from None


def keep_signals() -> set[int]:
    """Have the signals wait for a program that is going to be run; return the mask that it gets.

    Threads that are started from now on hear of none.
    """
    return {int(each) for each in signal.pthread_sigmask(signal.SIG_BLOCK, _PASSED)}


def start(
    path: str, command: tuple[str, ...], environment: Mapping[str, str], mask: set[int]
) -> int:
    """Start a program and return its process.

    Args:
        path: the program.
        command: its name and arguments.
        environment: its environment.
        mask: what ``keep_signals`` has returned.

    Raises:
        NotFoundError: there is none at the path.
        NotRunError: it cannot be executed.
    """
    try:
        return os.posix_spawn(path, command, environment, setsigmask=mask, setsigdef=_IGNORED)
    except (FileNotFoundError, NotADirectoryError) as error:
        raise NotFoundError(f"{path}: {error.strerror}") from None
    except OSError as error:
        raise NotRunError(f"{path}: {error.strerror}") from None


def wait(process: int) -> int:
    """Pass on to a program the signals that came since ``keep_signals``, until it has ended.

    Returns:
        Its exit status; 128 and the signal's number where one ended it, as of a shell.
    """
    while True:
        came = signal.sigwaitinfo(_PASSED)
        if came.si_signo == signal.SIGCHLD:
            ended, status = os.waitpid(process, os.WNOHANG)
            if ended:
                code = os.waitstatus_to_exitcode(status)
                return code if code >= 0 else 128 - code
        elif came.si_code <= 0:  # from a process: what a terminal sends, it sends to all of its job
            os.kill(process, came.si_signo)

"""Run a program for a command: pass signals on to it, and return its exit status."""

import contextlib
import os
import shutil
import signal
from collections.abc import Mapping

import click

from ...fake import preload
from ...fake.preload.loader import check_preload

# Not passed on: signals of a fault here, and those of job control, which stop this process too.
_OURS = {
    *(signal.SIGKILL, signal.SIGSTOP, signal.SIGTSTP, signal.SIGTTIN, signal.SIGTTOU),
    *(signal.SIGCONT, signal.SIGILL, signal.SIGTRAP, signal.SIGABRT, signal.SIGBUS),
    *(signal.SIGFPE, signal.SIGSEGV, signal.SIGSYS),
}
_PASSED = signal.valid_signals() - _OURS

# Python ignores these, and the program would inherit that.
_IGNORED = (signal.SIGPIPE, signal.SIGXFSZ)


class NotFoundError(click.ClickException):
    """There is no such program; the exit status is that of a shell."""

    exit_code = 127


class NotRunError(click.ClickException):
    """The program cannot be run; the exit status is that of a shell."""

    exit_code = 126


def find(name: str) -> str:
    """Return the path of the program that a shell would run by that name.

    Raises:
        NotFoundError: there is no such program.
    """
    path = name if os.sep in name else shutil.which(name) or shutil.which(name, mode=os.F_OK)
    if path is None:
        raise NotFoundError(f"{name}: no such program is on PATH")
    return path


def check(path: str) -> None:
    """Check that the fake's library can be preloaded into the program, if that can be known.

    Raises:
        NotRunError: it cannot.
    """
    # A file that cannot be read may still be executable.
    with contextlib.suppress(OSError):
        try:
            check_preload(path, preload.OBJECT)
        except ValueError as error:
            raise NotRunError(str(error)) from None


def block_signals() -> set[int]:
    """Block the signals that are passed on to a program; return the signal mask for the program.

    Threads that are started from now on have them blocked too.
    """
    return {int(each) for each in signal.pthread_sigmask(signal.SIG_BLOCK, _PASSED)}


def start(
    path: str, command: tuple[str, ...], environment: Mapping[str, str], mask: set[int]
) -> int:
    """Start a program and return its process ID.

    Args:
        path: the program.
        command: its name and arguments.
        environment: its environment.
        mask: the result of ``block_signals``.

    Raises:
        NotFoundError: there is no program at the path.
        NotRunError: it cannot be executed.
    """
    try:
        return os.posix_spawn(path, command, environment, setsigmask=mask, setsigdef=_IGNORED)
    except (FileNotFoundError, NotADirectoryError) as error:
        raise NotFoundError(f"{path}: {error.strerror}") from None
    except OSError as error:
        raise NotRunError(f"{path}: {error.strerror}") from None


def wait(process: int) -> int:
    """Pass signals on to a program, those since ``block_signals`` included, until it has ended.

    Args:
        process: the process ID.

    Returns:
        Its exit status; if a signal ended it, 128 plus the signal's number, as of a shell.
    """
    while True:
        came = signal.sigwaitinfo(_PASSED)
        if came.si_signo == signal.SIGCHLD:
            ended, status = os.waitpid(process, os.WNOHANG)
            if ended:
                code = os.waitstatus_to_exitcode(status)
                return code if code >= 0 else 128 - code
        elif came.si_code <= 0:  # from a process: the terminal signals the whole job itself
            os.kill(process, came.si_signo)

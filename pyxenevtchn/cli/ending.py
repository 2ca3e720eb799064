"""Signals that end a command cleanly: the first ends it, and later ones are ignored.

``timeout`` sends each signal twice, and people press Ctrl-C again: a second exception would
interrupt the cleanup, or show a traceback from the end of Python itself.
"""

import signal
from types import FrameType

_caught: list[int] = []


def end_by(number: int) -> None:
    """Let a signal end the command, unless it was ignored at the start, as by nohup."""
    if signal.getsignal(number) != signal.SIG_IGN:
        _caught.append(number)
        signal.signal(number, _end)


def restore_defaults() -> None:
    """If no signal has ended the command, let them kill the process, as they do any other."""
    for number in _caught:
        if signal.getsignal(number) is _end:
            signal.signal(number, signal.SIG_DFL)


def _end(number: int, _frame: FrameType | None) -> None:
    # A handler, for a signal that has already arrived; with SIG_IGN, Python would complain then.
    for each in _caught:
        signal.signal(each, _ignore)
    signal.pthread_sigmask(signal.SIG_BLOCK, _caught)
    if number == signal.SIGINT:
        raise KeyboardInterrupt
    raise SystemExit(0)


def _ignore(_number: int, _frame: FrameType | None) -> None:
    pass

"""Signals that end a command in order: the first does, and those that follow change nothing.

``timeout`` sends each signal twice, and people hit Ctrl-C again: what raised an exception for the
second too would cut the end short, or trace back through Python's own.
"""

import signal
from types import FrameType

_caught: list[int] = []


def end_by(number: int) -> None:
    """Have a signal end the command, unless this was started with it ignored, as by nohup."""
    if signal.getsignal(number) != signal.SIG_IGN:
        _caught.append(number)
        signal.signal(number, _end)


def ended() -> None:
    """Have the signals kill a process whose command ended without them, as they kill any other."""
    for number in _caught:
        if signal.getsignal(number) is _end:
            signal.signal(number, signal.SIG_DFL)


def _end(number: int, _frame: FrameType | None) -> None:
    # The handler is for one that has come already. Not SIG_IGN, of which Python complains then.
    for each in _caught:
        signal.signal(each, _ending)
    signal.pthread_sigmask(signal.SIG_BLOCK, _caught)
    if number == signal.SIGINT:
        raise KeyboardInterrupt
    raise SystemExit(0)


def _ending(_number: int, _frame: FrameType | None) -> None:
    pass

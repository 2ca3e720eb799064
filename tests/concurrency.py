"""Threads, child processes and signals: a test waits for each, and for none of them for ever."""

import os
import re
import signal
import subprocess
import threading
import time
import traceback
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

from .limits import TIMEOUT

Handler = Callable[[int, FrameType | None], object]

# Until this has passed it is worth asking whether a thread sleeps.
_PATIENCE = 5.0

# Short, so that it strikes in the midst of calls; in seconds.
_INTERVAL = 0.0003

_NESTED = 3


@contextmanager
def threads(*calls: Callable[[], object]) -> Iterator[list[threading.Thread]]:
    """Run each call in a thread of its own; in the end they have returned, and none has raised."""
    failures: list[BaseException] = []

    def guarded(call: Callable[[], object]) -> None:
        try:
            call()
        except BaseException as error:  # noqa: BLE001 - raised below
            failures.append(error)

    # Daemons: one that hangs does not keep the interpreter from its end.
    started = [threading.Thread(target=guarded, args=(call,), daemon=True) for call in calls]
    for thread in started:
        thread.start()
    yield started
    for thread in started:
        thread.join(TIMEOUT)
    if failures:
        raise failures[0]
    assert not any(thread.is_alive() for thread in started)


@contextmanager
def child(call: Callable[[], object]) -> Iterator[None]:
    """Run a call in a child of os.fork(); in the end it has returned and not raised."""
    with warnings.catch_warnings():
        # Python 3.12 and later: that other threads run, pytest-xdist's, may be a deadlock.
        warnings.simplefilter("ignore", DeprecationWarning)
        pid = os.fork()
    if pid == 0:
        status = 1
        try:
            signal.signal(signal.SIGALRM, signal.SIG_DFL)
            signal.alarm(int(TIMEOUT))
            call()
            status = 0
        except BaseException:  # noqa: BLE001 - the parent sees the status
            traceback.print_exc()
        finally:
            os._exit(status)
    try:
        yield
    except BaseException:
        os.kill(pid, signal.SIGKILL)
        raise
    finally:
        _, ended = os.waitpid(pid, 0)
    assert os.waitstatus_to_exitcode(ended) == 0


@contextmanager
def struck(handler: Handler) -> Iterator[None]:
    """Have a signal's handler called once, when a call of the body sleeps in the kernel.

    Where no call of it does, the handler is not called.
    """
    target = threading.main_thread()
    over = threading.Event()

    def strike() -> None:
        until_asleep(target, over)
        if not over.is_set():
            signal.pthread_kill(target.ident or 0, signal.SIGALRM)

    before = signal.signal(signal.SIGALRM, handler)
    striker = threading.Thread(target=strike, daemon=True)
    striker.start()
    try:
        yield
    finally:
        # What comes too late is for nobody.
        signal.signal(signal.SIGALRM, lambda _number, _frame: None)
        over.set()
        striker.join(TIMEOUT)
        signal.signal(signal.SIGALRM, before)


@contextmanager
def alarms(count: int, call: Callable[[], object]) -> Iterator[Callable[[], int]]:
    """Have a signal's handler make a call so many times, in the midst of whatever the body does.

    Handlers interrupt each other, though no more than three at once: a machine on which they take
    longer than the time between two signals would see no end of it.

    Yields:
        What tells how many times are left.
    """
    left = count
    depth = 0

    def handle(_number: int, _frame: FrameType | None) -> None:
        nonlocal left, depth
        left -= 1
        depth += 1
        if depth < _NESTED:
            arm()
        call()
        depth -= 1
        arm()

    def arm() -> None:
        signal.setitimer(signal.ITIMER_REAL, _INTERVAL if left > 0 else 0)

    before = signal.signal(signal.SIGALRM, handle)
    arm()
    try:
        yield lambda: left
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def until_asleep(thread: threading.Thread, over: threading.Event | None = None) -> None:
    """Wait until a thread sleeps in the kernel, for anything but a lock or a server's answer.

    Where the kernel does not tell, or something else is over first, that is enough.
    """
    waits_in = Path(f"/proc/self/task/{thread.native_id}/wchan")
    _until_asleep(waits_in, over.is_set if over else lambda: False)


def until_process_asleep(process: "subprocess.Popen[bytes]") -> None:
    """Wait until a process's first thread sleeps like that, or the process has ended."""
    _until_asleep(Path(f"/proc/{process.pid}/wchan"), lambda: process.poll() is not None)


def _until_asleep(waits_in: Path, is_over: Callable[[], bool]) -> None:
    end = time.monotonic() + _PATIENCE
    while time.monotonic() < end and not is_over():
        function = waits_in.read_text()
        if function != "0" and not re.search("futex|unix_stream", function):
            return

"""Threads, child processes and signals in tests: each is waited for, with a time limit."""

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

# How long to wait for a thread or process to sleep, in seconds.
_SLEEP_TIMEOUT = 5.0

# Between two alarms, in seconds: short, so that they come in the middle of calls.
_INTERVAL = 0.0003

# How many handlers may run at once, one inside the other.
_NESTED = 3


@contextmanager
def threads(*calls: Callable[[], object]) -> Iterator[list[threading.Thread]]:
    """Run each call in a thread of its own; at the end check that all returned and none raised."""
    failures: list[BaseException] = []

    def guarded(call: Callable[[], object]) -> None:
        try:
            call()
        except BaseException as error:  # noqa: BLE001 - raised below
            failures.append(error)

    # Daemons: a thread that hangs does not keep the interpreter from exiting.
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
    """Run a call in a child of os.fork(); at the end check that it returned and did not raise."""
    with warnings.catch_warnings():
        # Python 3.12 and later warns: the threads of pytest-xdist may cause a deadlock.
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
    """Call a signal's handler once, while a call in the body sleeps in the kernel.

    If no call sleeps, the handler is not called.
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
        # Ignore a signal that comes too late.
        signal.signal(signal.SIGALRM, lambda _number, _frame: None)
        over.set()
        striker.join(TIMEOUT)
        signal.signal(signal.SIGALRM, before)


@contextmanager
def alarms(count: int, call: Callable[[], object]) -> Iterator[Callable[[], int]]:
    """Make a call ``count`` times from a signal's handler, at any point of the body.

    Handlers interrupt each other, but at most three at once: where a handler takes longer than the
    time between two signals, they would never end.

    Yields:
        A function that returns how many calls are left.
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


def wait_until(condition: Callable[[], bool]) -> None:
    """Ask again and again until a condition holds, for what nothing announces."""
    deadline = time.monotonic() + TIMEOUT
    while not condition():
        assert time.monotonic() < deadline, "it has not come about in time"
        time.sleep(0.01)


def until_asleep(thread: threading.Thread, over: threading.Event | None = None) -> None:
    """Wait until a thread sleeps in the kernel, for anything but a lock or a server's answer.

    Give up when ``over`` is set, or after some seconds: not every kernel shows where a thread
    sleeps.
    """
    waits_in = Path(f"/proc/self/task/{thread.native_id}/wchan")
    _until_asleep(waits_in, over.is_set if over else lambda: False)


def until_process_asleep(process: "subprocess.Popen[bytes]") -> None:
    """Do the same for a process's first thread; give up when the process has ended."""
    _until_asleep(Path(f"/proc/{process.pid}/wchan"), lambda: process.poll() is not None)


def _until_asleep(waits_in: Path, is_over: Callable[[], bool]) -> None:
    end = time.monotonic() + _SLEEP_TIMEOUT
    while time.monotonic() < end and not is_over():
        function = waits_in.read_text()
        if function != "0" and not re.search("futex|unix_stream", function):
            return

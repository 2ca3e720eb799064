"""A strike: a call, with a signal handler that acts at one opcode of the library's own code.

    for strike in strikes(KeyboardInterrupt):  # each opcode in turn
        world = World(...)
        strike.run(lambda: world.channel.wait(0))
        ...  # whatever strike.value and strike.error are: nothing is lost

What the handler does is raise an error, or call ``act`` of the strike, which may use the library.

The signal is real and comes just before the Nth opcode. As with any signal, the interpreter runs
the handler where it checks for signals next: at the start of a function, at the end of a call into
C, at a jump back in a loop. The code under test is the library without its fakes, which stand for
the kernel: a handler that is due in one of their functions runs when that function is done, as with
a function in C.

A handler that is due after the library's last opcode runs in the caller's frame. ``run`` has the
call's value then: the interpreter does not check for signals between the return of a Python
function and the assignment of its value. A caller in C, such as ``map`` or ``functools.partial``,
does not have that guarantee.
"""

import ctypes
import functools
import random
import shlex
import shutil
import signal
import subprocess
import sysconfig
from collections.abc import Callable, Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from types import FrameType

import pyxenevtchn

SOURCE = Path(__file__).with_name("strike.c")
LIBRARY = Path(pyxenevtchn.__file__).parent
FAKES = LIBRARY / "fake"

# The place of a handler that ran outside the code under test.
CALLER = "the caller"

_COMPILER = shlex.split(sysconfig.get_config_var("CC") or "cc")
_INCLUDE = Path(sysconfig.get_path("include"))


class Strike:
    """A run of a call, with a signal just before one of its opcodes.

    Attributes:
        nth: the number of that opcode, from 1.
        opcodes: how many opcodes had begun when the handler ran, or when the call ended.
        act: what the handler calls, if it raises no error.
        ran: whether the handler ran; not if the call ended before the nth opcode.
        raised: what the handler raised.
        place: where the handler ran: the innermost line under test, or CALLER.
        returned: whether the call returned.
        value: what the call returned.
        error: what was raised instead of the return, or after it.
    """

    def __init__(
        self, nth: int, error: type[BaseException] | None, inside: Path, outside: Path
    ) -> None:
        self.nth = nth
        self.act: Callable[[], object] = bool
        self.ran: bool = False
        self.opcodes: int = 0
        self.raised: BaseException | None = None
        self.place: str = ""
        self.returned: bool = False
        self.value: object = None
        self.error: BaseException | None = None
        self._type = error
        self._inside, self._outside = inside, outside
        self._prefixes = f"{inside}/".encode(), f"{outside}/".encode()

    def run(self, call: Callable[[], object]) -> None:
        """Make the call; store what it raises in ``error``."""
        tool = load()
        before = signal.signal(signal.SIGUSR1, self._handle)
        opcodes = 0
        try:
            try:
                tool.arm(self.nth, *self._prefixes)
                self.value = call()
                self.returned = True
            finally:
                # Whether the call returned or raised, a handler that is due runs here.
                opcodes = tool.disarm()
        except BaseException as error:
            if error is not self.raised and not isinstance(error, Exception):
                raise
            self.error = error
        finally:
            signal.signal(signal.SIGUSR1, before)
        self.opcodes = self.opcodes or opcodes
        forget_frames(self.error)
        forget_frames(self.raised)

    def _handle(self, _number: int, frame: FrameType | None) -> None:
        callers = [*_callers(frame)]
        if any(self._is_outside(caller) for caller in callers):
            load().defer()
            return
        self.opcodes = load().disarm()
        self.place = self._describe(callers)
        self.ran = True
        if self._type is None:
            self.act()
            return
        self.raised = self._type(self.place)
        raise self.raised

    def _describe(self, callers: list[FrameType]) -> str:
        for caller in callers:
            code = caller.f_code
            file = Path(code.co_filename)
            if file.is_relative_to(self._inside):
                place = f"{file.relative_to(self._inside)}:{caller.f_lineno} {code.co_qualname}"
                inner = callers[0].f_code
                return place if inner is code else f"{place}, in {inner.co_qualname}"
        return CALLER

    def _is_outside(self, frame: FrameType) -> bool:
        return Path(frame.f_code.co_filename).is_relative_to(self._outside)


def _callers(frame: FrameType | None) -> Iterator[FrameType]:
    """Yield a frame and its callers, up to the call that is struck."""
    while frame and frame.f_code is not Strike.run.__code__:
        yield frame
        frame = frame.f_back


def forget_frames(error: BaseException | None) -> None:
    """Remove the frames from an exception and its contexts, as if its owner had dropped it."""
    while error:
        error.__traceback__ = None
        error.__context__, error = None, error.__context__


def strikes(
    error: type[BaseException] | None,
    stride: int = 1,
    *,
    inside: Path = LIBRARY,
    outside: Path = FAKES,
) -> Iterator[Strike]:
    """Yield strikes, for the caller to run in turn, until a call ends before its opcode comes.

    The next strike is at the first opcode after the place where the last handler ran: a signal at
    any opcode between the two would be handled at that same place.

    Args:
        error: what the handler raises; None if it calls ``act``.
        stride: strike about once in so many opcodes, at random; 1 leaves no place out.
        inside: the folder of the code that is struck.
        outside: the folder in it whose code is not struck.
    """
    strike = Strike(1, error, inside, outside)
    while True:
        yield strike
        if not strike.ran:
            return
        skipped = random.randrange(2 * stride - 1)  # noqa: S311
        strike = Strike(strike.opcodes + 1 + skipped, error, inside, outside)


def missing() -> str:
    """Return the reason why the tool cannot be built here; empty if it can."""
    if not shutil.which(_COMPILER[0]):
        return f"needs a C compiler: there is no {_COMPILER[0]}"
    if not (_INCLUDE / "Python.h").exists():
        return f"needs Python's headers: there are none in {_INCLUDE}"
    return ""


@functools.cache
def load() -> ctypes.PyDLL:
    """Build the tool and load it."""
    with TemporaryDirectory() as folder:
        library = Path(folder, "strike.so")
        command = [*_COMPILER, "-shared", "-fPIC", "-O2", "-Wall", "-Wextra", "-Werror"]
        subprocess.run(
            [*command, "-isystem", _INCLUDE, "-o", library, SOURCE], check=True, timeout=300
        )
        tool = ctypes.PyDLL(str(library))
    tool.arm.argtypes = (ctypes.c_long, ctypes.c_char_p, ctypes.c_char_p)
    tool.disarm.restype = ctypes.c_long
    return tool

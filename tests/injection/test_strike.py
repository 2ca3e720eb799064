"""The tool itself, on sample code."""

import signal
from collections.abc import Callable, Generator
from functools import partial
from pathlib import Path

import pytest

from .examine import Finalizers
from .sample import code
from .strike import CALLER, Strike, strikes

INSIDE = Path(code.__file__).parent
OUTSIDE = INSIDE / "outside"


def strike_all(call: Callable[[], object]) -> list[Strike]:
    """Strike a call at each opcode; return the strikes, the last of which struck nothing."""
    struck = []
    for strike in strikes(LookupError, inside=INSIDE, outside=OUTSIDE):
        strike.run(call)
        struck.append(strike)
    return struck


def places(struck: list[Strike]) -> set[str]:
    """Return the names of the functions in which handlers ran."""
    return {strike.place.partition(" ")[2] for strike in struck if strike.raised}


def test_every_place_where_a_handler_can_run_is_struck() -> None:
    struck = strike_all(code.calls)
    *within, last, unstruck = struck
    assert {"add", "calls"} <= places(within)
    for strike in within:
        assert not strike.returned
        assert strike.error is strike.raised
    # The last handler was due after the last opcode: it ran in the caller, which had the value.
    assert (last.place, last.value, last.error) == (CALLER, 7, last.raised)
    assert (unstruck.value, unstruck.error, unstruck.raised) == (7, None, None)


def test_no_place_is_left_out() -> None:
    def strike_at(nth: int) -> Strike:
        strike = Strike(nth, LookupError, INSIDE, OUTSIDE)
        strike.run(code.calls)
        return strike

    *struck, unstruck = strike_all(code.calls)
    every = [strike_at(nth) for nth in range(1, unstruck.opcodes + 1)]
    assert len(every) > len(struck)
    assert {strike.opcodes for strike in every} == {strike.opcodes for strike in struck}


def test_no_handler_runs_outside() -> None:
    counts = []
    for strike in strikes(LookupError, inside=INSIDE, outside=OUTSIDE):
        results: list[int] = []
        strike.run(partial(code.in_the_kernel, results))
        assert strike.place.partition(" ")[2] in {"in_the_kernel", "add", "caller", ""}
        counts.append(len(results))
    # A function that is called there runs whole or not at all; a handler that is due runs after it.
    assert 3 in counts
    assert set(counts) <= {0, 3}


@pytest.mark.parametrize(("take", "lost"), [("take", {"Queue.take"}), ("take_safely", set())])
def test_a_loss_is_found_and_none_where_there_is_none(take: str, lost: set[str]) -> None:
    losers = []
    for strike in strikes(LookupError, inside=INSIDE, outside=OUTSIDE):
        queue = code.Queue()
        strike.run(getattr(queue, take))
        received = strike.value if strike.returned else []
        assert isinstance(received, list)
        if received + queue.things != ["thing"]:
            losers.append(strike)
    assert places(losers) == lost


def paused_loop(done: list[str]) -> Generator[int]:
    loop = code.loop(done)
    next(loop)
    return loop


def test_a_generator_that_began_before_is_struck() -> None:
    ends = []
    for strike in strikes(LookupError, inside=INSIDE, outside=OUTSIDE):
        done: list[str] = []
        strike.run(paused_loop(done).close)
        ends.append(done)
    assert ["first"] in ends
    assert ends[-1] == ["first", "second"]


def test_an_exception_in_a_finalizer_is_reported() -> None:
    told = 0
    for strike in strikes(LookupError, inside=INSIDE, outside=OUTSIDE):
        loops = [paused_loop([])]
        with Finalizers() as finalizers:
            strike.run(loops.clear)
        if strike.place != CALLER and strike.raised:
            assert finalizers.errors() == [strike.raised]
            told += 1
    assert told


def test_other_exceptions_and_the_previous_handler_are_kept() -> None:
    before = signal.getsignal(signal.SIGUSR1)
    strike = Strike(1000, LookupError, INSIDE, OUTSIDE)
    strike.run(lambda: code.add(1, "two"))  # type: ignore[arg-type]
    assert isinstance(strike.error, TypeError)
    assert strike.raised is None
    assert signal.getsignal(signal.SIGUSR1) is before

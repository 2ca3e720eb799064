"""The fake against the real driver: the same steps on both, every answer compared.

No other program may use dom0's event channels meanwhile, and dom0 is left with one vCPU: with
several, the order of events depends on more than the driver. ``--examples N`` is how many
sequences to try, ``--seconds N`` for how long at most.

Without a real machine the fake is compared with another fake. That shows that the comparison works:
it finds no difference, and it finds each error that is made on purpose. The latter would take an
hour on a real machine.
"""

import random
import time
from collections.abc import Callable

import pytest
from hypothesis import HealthCheck, Phase, given, note, settings
from hypothesis import strategies as st

import pyxenevtchn.fake

from .machines import Machine
from .mutants import MUTANTS, Mutant, mutated
from .sequences import NUMBERS_END, OPERATIONS, OPERATIONS_OF_TWO, Step, names, random_steps
from .worlds import Worlds

pytestmark = pytest.mark.backends("fake", "real")

# The error must be found within so many sequences.
MUTANT_SEQUENCES = 400

# Sequences in one run of Hypothesis: it also generates those that are left when the time is over.
ROUND = 100


@pytest.fixture
def report(capsys: pytest.CaptureFixture[str]) -> Callable[[str], None]:
    """Print a text although pytest captures the output."""

    def show(text: str) -> None:
        with capsys.disabled():
            print(f"\n{text}")

    return show


def test_the_fake_answers_as_the_driver_does(
    request: pytest.FixtureRequest,
    machine: Callable[[bool], Machine],
    report: Callable[[str], None],
) -> None:
    report(compare(request, machine(False), OPERATIONS))


def test_two_domains_of_the_fake_answer_as_real_ones_do(
    request: pytest.FixtureRequest,
    machine: Callable[[bool], Machine],
    report: Callable[[str], None],
) -> None:
    report(compare(request, machine(True), OPERATIONS_OF_TWO))


def compare(request: pytest.FixtureRequest, compared: Machine, operations: dict[str, int]) -> str:
    """Try random sequences; return a summary."""
    end = time.monotonic() + request.config.getoption("--seconds")
    done: list[int] = []
    number = st.integers(0, NUMBERS_END)
    step = st.tuples(st.sampled_from(names(operations)), number, number, number)

    def try_one(sequence: list[Step]) -> None:
        # When the time is over, the sequences that are left do nothing.
        if time.monotonic() >= end:
            return
        worlds = Worlds(compared, pyxenevtchn.fake)
        try:
            for each in sequence:
                note(worlds.step(*each))
            worlds.close()
        except BaseException:
            worlds.give_up()
            raise
        done.append(len(sequence))

    left = request.config.getoption("--examples")
    while left > 0 and time.monotonic() < end:
        of_a_round = settings(
            max_examples=min(left, ROUND),
            deadline=None,
            database=None,
            # To shorten a sequence takes minutes on a real machine.
            phases=[Phase.generate],
            suppress_health_check=list(HealthCheck),
        )
        of_a_round(given(st.lists(step, min_size=30, max_size=60))(try_one))()
        left -= ROUND
    return f"{len(done)} sequences, {sum(done)} steps, no difference"


@pytest.mark.backends("fake")
@pytest.mark.parametrize("mutant", MUTANTS, ids=str)
def test_a_small_error_in_the_models_is_found(
    machine: Callable[[bool], Machine], mutant: Mutant, report: Callable[[str], None]
) -> None:
    compared = machine(mutant.guest)
    operations = OPERATIONS_OF_TWO if mutant.guest else OPERATIONS
    chance = random.Random(str(mutant))  # noqa: S311 - no secret
    with mutated(mutant, MUTANTS.index(mutant)) as fake:
        for sequence in range(1, MUTANT_SEQUENCES + 1):
            worlds = Worlds(compared, fake)
            try:
                for step in random_steps(chance, operations, 60):
                    worlds.step(*step)
                worlds.close()
            except Exception as error:  # noqa: BLE001 - whatever it breaks
                worlds.give_up()
                report(f"found in sequence {sequence}: {error}")
                return
    pytest.fail(f"not found in {MUTANT_SEQUENCES} sequences")

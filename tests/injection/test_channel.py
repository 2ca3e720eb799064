"""EventChannel with a signal handler that raises, at each of its opcodes."""

from collections.abc import Callable

import pytest

from .examine import assert_unharmed
from .operations import OPERATIONS
from .world import Machine

# Hundreds of strikes in each test.
pytestmark = pytest.mark.timeout(300)

ANYWHERE = [name for name, operation in OPERATIONS.items() if not operation.fake_only]


@pytest.mark.backends("fake", "preload", "real")
@pytest.mark.parametrize("name", ANYWHERE)
def test_nothing_is_lost_or_left(
    new_machine: Callable[[], Machine], name: str, stride: int
) -> None:
    assert_unharmed(new_machine, OPERATIONS[name], stride)


@pytest.mark.backends("fake")
@pytest.mark.parametrize("name", sorted(OPERATIONS.keys() - ANYWHERE))
def test_nothing_is_lost_or_left_by_calls_for_a_fake_only(
    new_machine: Callable[[], Machine], name: str, stride: int
) -> None:
    assert_unharmed(new_machine, OPERATIONS[name], stride)

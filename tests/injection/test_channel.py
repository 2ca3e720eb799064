"""EventChannel, with a signal handler that raises anywhere in it."""

from collections.abc import Callable

import pytest

from .examine import assert_unharmed
from .operations import OPERATIONS
from .world import Machine

# Hundreds of strikes each.
pytestmark = [pytest.mark.backends("fake", "real"), pytest.mark.timeout(300)]


@pytest.mark.parametrize("name", OPERATIONS)
def test_nothing_is_lost_or_left(
    new_machine: Callable[[], Machine], backend: str, name: str, stride: int
) -> None:
    operation = OPERATIONS[name]
    if backend == "real" and operation.fake_only:
        pytest.skip("a real device is no place for it")
    assert_unharmed(new_machine, operation, stride)

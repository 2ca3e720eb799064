"""AsyncEventChannel with a signal handler that raises, at each of its opcodes."""

from collections.abc import Callable

import pytest

from .async_operations import ASYNC_OPERATIONS
from .examine import assert_unharmed
from .world import Machine

# Hundreds of strikes in each test. They use the same calls of a device as EventChannel, whose tests
# run on the preloaded device each time.
pytestmark = [
    pytest.mark.backends("fake", "preload", "real", on_demand=("preload",)),
    pytest.mark.timeout(300),
]


@pytest.mark.parametrize("name", ASYNC_OPERATIONS)
def test_nothing_is_lost_or_left(
    new_machine: Callable[[], Machine], name: str, stride: int
) -> None:
    assert_unharmed(new_machine, ASYNC_OPERATIONS[name], stride)

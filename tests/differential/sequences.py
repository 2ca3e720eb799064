"""Random sequences of steps (see worlds.Worlds), and how often each operation is in them."""

import random
from collections.abc import Iterator, Mapping

# An operation and three numbers, from which it chooses.
Step = tuple[str, int, int, int]

OPERATIONS = {
    "bind_interdomain": 8,
    "notify": 8,
    "read": 7,
    "write": 7,
    "bind_unbound_port": 5,
    "unbind": 4,
    "poll": 4,
    "open": 3,
    "bind_virq": 2,
    "bind_static": 2,
    "close": 1,
    "dup": 1,
    "reset": 1,
    "restrict": 1,
    "churn": 1,
    "connect": 6,
    "bind_many": 1,
    "refill": 1,
}
# With a guest, where each step takes longer.
OPERATIONS_OF_TWO = {**OPERATIONS, "open": 5, "churn": 0, "refill": 0, "burst": 3}
NUMBERS_END = 2**12


def names(operations: Mapping[str, int]) -> list[str]:
    """Return the operations, each repeated by its weight."""
    return [name for name, weight in operations.items() for _ in range(weight)]


def random_steps(
    chance: random.Random, operations: Mapping[str, int], count: int
) -> Iterator[Step]:
    """Choose so many steps."""
    choices = names(operations)
    for _ in range(count):
        a, b, c = (chance.randint(0, NUMBERS_END) for _ in range(3))
        yield chance.choice(choices), a, b, c

"""Sample code to strike: one function loses what it took, the others are right."""

from collections.abc import Generator

from .outside import kernel


class Queue:
    """Things that a caller takes."""

    def __init__(self) -> None:
        self.things = ["thing"]

    def take(self) -> list[str]:
        """Lose what was taken, if a handler runs at the end of pop()."""
        return [self.things.pop()]

    def take_safely(self) -> list[str]:
        """Lose nothing: between the two lines there is no call, so no handler runs there."""
        taken, self.things = self.things, []
        return taken


def add(a: int, b: int) -> int:
    return a + b


def calls() -> int:
    return add(add(1, 2), len("four"))


def in_the_kernel(results: list[int]) -> None:
    kernel.call(lambda: results.append(calls()))
    add(1, 2)


def loop(done: list[str]) -> Generator[int]:
    try:
        yield 1
    finally:
        done.append("first")
        done.append("second")

"""Code to be struck: right, or wrong in one place."""

from collections.abc import Generator

from .outside import kernel


class Queue:
    """Things that somebody is to get."""

    def __init__(self) -> None:
        self.things = ["thing"]

    def take(self) -> list[str]:
        """Lose what was taken where a handler runs as pop() ends."""
        return [self.things.pop()]

    def take_safely(self) -> list[str]:
        """Lose nothing: there is no call, and so no handler runs, between the two lines."""
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

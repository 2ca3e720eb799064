"""xenvm's messages about its work."""

import sys


def say(message: str) -> None:
    """Print what comes next, if stderr is a terminal."""
    if sys.stderr.isatty():
        warn(message)


def warn(message: str) -> None:
    """Print a warning: the work goes on."""
    print(f"xenvm: {message}", file=sys.stderr, flush=True)

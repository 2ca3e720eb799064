"""What xenvm says about its work."""

import sys


def say(message: str) -> None:
    """Print a line about what comes next, where stderr is a terminal."""
    if sys.stderr.isatty():
        warn(message)


def warn(message: str) -> None:
    """Print a line about what went wrong but does not end the work."""
    print(f"xenvm: {message}", file=sys.stderr, flush=True)

"""What xenvm says about its work, to people only: nothing where stderr is not a terminal."""

import sys


def say(message: str) -> None:
    """Print a line about what comes next, if somebody watches."""
    if sys.stderr.isatty():
        print(f"xenvm: {message}", file=sys.stderr, flush=True)

"""Timeouts of calls that wait."""

from time import monotonic_ns

POLL_MOST = 2**31 - 1
"""The longest wait that epoll_wait(2) takes, in milliseconds."""

# In seconds. No useful timeout is longer, and in nanoseconds it fits into 64 bits.
_LONGEST = 1e9


def to_nanoseconds(timeout: float | None) -> int:
    """Check a timeout and return it in nanoseconds; -1 for None.

    Args:
        timeout: seconds, or None for no limit.

    Raises:
        ValueError: the timeout is negative or not a number.
    """
    if timeout is None:
        return -1
    try:
        valid = timeout >= 0
    except ArithmeticError:
        valid = False  # a Decimal that is not a number
    if not valid:
        raise ValueError(f"timeout must be None or at least 0 seconds, not {timeout}")
    return int(float(min(timeout, _LONGEST)) * 1e9)


def to_deadline(nanoseconds: int) -> int:
    """Return the time of CLOCK_MONOTONIC after so many nanoseconds; 0 and -1 stay as they are."""
    return monotonic_ns() + nanoseconds if nanoseconds > 0 else nanoseconds

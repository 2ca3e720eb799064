"""The open file descriptors of this process."""

import gc
import os


def descriptors() -> set[str]:
    """Return the open descriptors, after the garbage of earlier tests is collected."""
    gc.collect()
    return set(os.listdir("/proc/self/fd"))  # noqa: PTH208 - the listing's own descriptor is in it

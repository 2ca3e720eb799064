"""What this process has open."""

import gc
import os


def descriptors() -> set[str]:
    """List the descriptors that are open, once what earlier tests have left has gone."""
    gc.collect()
    return set(os.listdir("/proc/self/fd"))  # noqa: PTH208 - the listing's own descriptor is in it

"""xenvm's cache: directories that are complete once they have their final names.

Each is made under a temporary name, then renamed. A file in it has its layout version, so that
xenvm refuses a directory that another version of xenvm made.
"""

import contextlib
import fcntl
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

from .errors import Failure

_LAYOUT = "layout"


def directory() -> Path:
    """Return the cache's directory; create it if it is missing."""
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    found = Path(base, "pyxenevtchn/xenvm")
    found.mkdir(parents=True, exist_ok=True)
    return found.resolve()


def cached(
    name: str,
    megabytes: int,
    make: Callable[[Path], None],
    layout: int = 1,
    parent: Path | None = None,
) -> Path:
    """Return the directory of this name; if there is none, create it with make().

    Args:
        name: the directory's name.
        megabytes: the most disk space that make() needs, in MiB.
        make: fills the directory that it is given.
        layout: the version of what make() makes; a directory without a layout file has 1.
        parent: the directory's parent; None means the cache.

    Raises:
        Failure: the disk has less space, or another version of xenvm made the directory.

    """
    parent = parent or directory()
    final = parent / name
    if not final.exists():
        with _lock(parent):
            unfinished = parent / "unfinished"
            # Another xenvm may have made it meanwhile, or died and left something behind.
            if not final.exists():
                shutil.rmtree(unfinished, ignore_errors=True)
                _check_space(final, megabytes)
                unfinished.mkdir()
                make(unfinished)
                (unfinished / _LAYOUT).write_text(f"{layout}\n")
                unfinished.rename(final)
    if _layout(final) != layout:
        raise Failure(f"another version of xenvm made {final}: remove that directory and try again")
    return final


def has(name: str) -> bool:
    """Return whether the cache has a directory of this name."""
    return (directory() / name).exists()


def _layout(made: Path) -> int:
    file = made / _LAYOUT
    return int(file.read_text()) if file.exists() else 1


def _check_space(wanted: Path, megabytes: int) -> None:
    free = shutil.disk_usage(wanted.parent).free >> 20
    if free < megabytes:
        raise Failure(
            f"{wanted} needs {megabytes} MB and the disk has {free} MB free: free some space, or "
            "set XDG_CACHE_HOME to another directory"
        )


@contextlib.contextmanager
def _lock(parent: Path) -> Iterator[None]:
    """Hold the directory's lock: one xenvm fetches, the others wait."""
    with (parent / "lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield

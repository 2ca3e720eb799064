"""What xenvm keeps: directories that are whole as soon as they have their names.

Each is made under a temporary name and renamed. Each says which layout it has, so that one which
another version of xenvm made is told from one that fits.
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
    """Return the cache's directory, made if it is missing."""
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
    """Return the directory of that name; if there is none, let make() fill it first.

    Args:
        name: the directory's.
        megabytes: what making it takes of the disk, at most.
        make: fills the directory that it is given.
        layout: changes with what make() makes; 1 is that of directories that do not say theirs.
        parent: where it is; None is the cache.

    Raises:
        Failure: the disk has less than that, or another version of xenvm made the directory.

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
        raise Failure(
            f"another version of xenvm made {final}: remove that directory, and this one makes it"
        )
    return final


def held(name: str) -> bool:
    """Tell whether the cache has a directory of that name."""
    return (directory() / name).exists()


def _layout(made: Path) -> int:
    file = made / _LAYOUT
    return int(file.read_text()) if file.exists() else 1


def _check_space(wanted: Path, megabytes: int) -> None:
    free = shutil.disk_usage(wanted.parent).free >> 20
    if free < megabytes:
        raise Failure(
            f"{wanted} takes {megabytes} MB and the disk has {free} left: make room there, or name "
            "another place for the cache in XDG_CACHE_HOME"
        )


@contextlib.contextmanager
def _lock(parent: Path) -> Iterator[None]:
    """Hold the directory's lock: one xenvm fetches, the others wait for what it brings."""
    with (parent / "lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield

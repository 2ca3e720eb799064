"""A domain's initramfs: busybox, the init script, kernel modules, and what to run.

It is small enough to make for each run, and not compressed: the emulated machine is slow.
"""

import lzma
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from . import cpio
from .errors import Failure


def initramfs(
    busybox: Path,
    modules: Path,
    names: Iterable[str],
    files: Mapping[str, bytes],
    copies: Iterable[Path] = (),
) -> bytes:
    """Return a cpio archive.

    Args:
        busybox: the program for the domain's architecture.
        modules: the kernel's directory of modules, as a system has it.
        names: the modules to include; their dependencies come with them.
        files: the other files, init among them.
        copies: the host's files to have under /copies.
    """
    entries = [
        *(cpio.entry(name, 0o040755) for name in ("bin", "copies", "dev", "proc", "modules")),
        cpio.entry("bin/busybox", 0o100755, busybox.read_bytes()),
        *(cpio.entry(name, 0o100755, contents) for name, contents in files.items()),
    ]
    for number, path in enumerate(_with_dependencies(modules, names)):
        # The init script loads them in the order of their names.
        entries.append(cpio.entry(f"modules/{number:02}-{path.name}", 0o100644, _contents(path)))
    entries += _copies(copies)
    return b"".join([*entries, cpio.entry(cpio.END, 0)])


def _copies(paths: Iterable[Path]) -> Iterator[bytes]:
    """Return the entries of the host's files and of their directories."""
    # A directory in place of a link to one would hide what the link leads to.
    files = {path.resolve() for path in paths}
    directories = {parent for path in files for parent in path.parents if parent != Path("/")}
    for path in sorted(directories | files):
        status = path.stat()
        contents = path.read_bytes() if path in files else b""
        yield cpio.entry(f"copies{path}", status.st_mode, contents, int(status.st_mtime))


def _with_dependencies(modules: Path, names: Iterable[str]) -> list[Path]:
    """Return the files of the modules and their dependencies, each after what it needs."""
    needs: dict[str, list[str]] = {}
    for line in (modules / "modules.dep").read_text().splitlines():
        file, _, others = line.partition(":")
        needs[file] = others.split()
    files = {_name(file): file for file in needs}
    builtin = set(map(_name, (modules / "modules.builtin").read_text().splitlines()))
    ordered: dict[str, None] = {}
    for name in names:
        if name in files:
            # modules.dep has the deepest dependency last.
            ordered |= dict.fromkeys([*reversed(needs[files[name]]), files[name]])
        elif name not in builtin:
            raise Failure(f"the kernel in {modules} has no module {name}")
    return [modules / file for file in ordered]


def _name(file: str) -> str:
    """Return a module's name, as lsmod has it, from its file's."""
    return Path(file).name.partition(".")[0].replace("-", "_")


def _contents(path: Path) -> bytes:
    """Return a module uncompressed, as busybox needs it."""
    contents = path.read_bytes()
    return lzma.decompress(contents) if path.suffix == ".xz" else contents

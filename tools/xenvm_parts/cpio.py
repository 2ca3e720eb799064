"""cpio archives in the format "newc", which a kernel unpacks as its initramfs.

``python3 cpio.py DIRECTORY >ARCHIVE`` packs a directory.
"""

import stat
import sys
from collections.abc import Iterator
from pathlib import Path

END = "TRAILER!!!"


def entry(name: str, mode: int, contents: bytes = b"", mtime: int = 0) -> bytes:
    """Return what an archive has for a file, a directory or a link, owned by root.

    Args:
        name: its path in the archive; after the last entry, one of the name END.
        mode: its type and permissions.
        contents: a file's contents, or where a link points to.
        mtime: the time of its last change, in seconds since 1970.
    """
    path = name.encode() + b"\0"
    fields = (0, mode, 0, 0, 1, mtime & 0xFFFFFFFF, len(contents), 0, 0, 0, 0, len(path), 0)
    header = b"070701" + b"".join(b"%08X" % field for field in fields) + path
    return _padded(header) + _padded(contents)


def _padded(contents: bytes) -> bytes:
    """Return the contents, padded to a multiple of four bytes."""
    return contents + bytes(-len(contents) % 4)


def _entries(directory: Path) -> Iterator[bytes]:
    # Sorted, so that a directory comes before its files.
    for path in sorted(directory.rglob("*")):
        mode = path.lstat().st_mode
        contents = b""
        if stat.S_ISLNK(mode):
            contents = bytes(path.readlink())
        elif stat.S_ISREG(mode):
            contents = path.read_bytes()
        yield entry(str(path.relative_to(directory)), mode, contents)
    yield entry(END, 0)


if __name__ == "__main__":
    sys.stdout.buffer.writelines(_entries(Path(sys.argv[1])))

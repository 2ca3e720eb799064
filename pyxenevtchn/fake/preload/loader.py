"""Whether the dynamic loader preloads an object into a program, according to its file."""

import mmap
import os
import stat
import struct
from pathlib import Path

# How deep the interpreters of scripts may be scripts themselves (Linux).
_DEPTH = 5

# The ELF format, by its class: the type of an address; the places in the header of the program
# headers' offset, and of their size and count; the places in a program header of its segment's
# offset and size.
_LAYOUTS = {1: ("I", 28, 42, 4, 16), 2: ("Q", 32, 54, 8, 32)}
_PT_INTERP = 3


def check_preload(program: str, preloaded: Path) -> None:
    """Check that the loader will preload an object into a program, or a script's interpreter.

    Args:
        program: the program's path.
        preloaded: the object's.

    Raises:
        ValueError: it will not; the message says why.
        OSError: the program cannot be read.
    """
    for _ in range(_DEPTH):
        _check_privileges(program)
        with open(program, "rb") as file:  # noqa: PTH123 - the path as the kernel gets it
            line = file.readline(256)
        if not line.startswith(b"#!"):
            break
        program = os.fsdecode(line[2:].split()[0])
    machine, interpreter = _read(program)
    if machine is None:
        return  # the kernel reports what it is
    wanted, _ = _read(str(preloaded))
    if machine != wanted:
        raise ValueError(f"{program} is for another kind of machine than {preloaded}")
    if interpreter is None:
        raise ValueError(
            f"{program}: it is linked statically, so nothing can be preloaded into it: link it"
            " dynamically"
        )
    if "ld-musl" in interpreter:
        raise ValueError(f"{program} is for musl, and {preloaded} for the GNU C library")


def _check_privileges(program: str) -> None:
    """Check that the kernel gives a program no privileges: else the loader preloads nothing."""
    status = os.stat(program)  # noqa: PTH116
    becomes = (status.st_mode & stat.S_ISUID and status.st_uid != os.geteuid()) or (
        status.st_mode & stat.S_ISGID and status.st_gid != os.getegid()
    )
    if becomes or (os.geteuid() != 0 and "security.capability" in os.listxattr(program)):
        raise ValueError(
            f"{program} has privileges of its own (setuid, setgid or capabilities), so nothing is"
            " preloaded into it: run a copy without them"
        )


def _read(path: str) -> tuple[tuple[int, int] | None, str | None]:
    """Return a program's class and machine, or None, and its interpreter, or None."""
    with open(path, "rb") as file:  # noqa: PTH123
        if os.fstat(file.fileno()).st_size < 64 or file.read(4) != b"\x7fELF":
            return None, None
        with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
            return _parse(data)


def _parse(data: mmap.mmap) -> tuple[tuple[int, int] | None, str | None]:
    kind, (machine,) = data[4], struct.unpack_from("=H", data, 18)
    if kind not in _LAYOUTS:
        return None, None
    word, headers_at, sizes_at, offset_at, size_at = _LAYOUTS[kind]
    try:
        (headers,) = struct.unpack_from(f"={word}", data, headers_at)
        header_size, count = struct.unpack_from("=2H", data, sizes_at)
        for header in range(headers, headers + count * header_size, header_size or 1):
            if struct.unpack_from("=I", data, header)[0] == _PT_INTERP:
                (offset,) = struct.unpack_from(f"={word}", data, header + offset_at)
                (size,) = struct.unpack_from(f"={word}", data, header + size_at)
                return (kind, machine), os.fsdecode(data[offset : offset + size].rstrip(b"\0"))
    except struct.error:  # it is truncated
        return None, None
    return (kind, machine), None

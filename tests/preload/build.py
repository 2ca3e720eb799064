"""Compile the C programs and the preloaded object: plain, and with sanitizers."""

import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from pyxenevtchn.fake import preload

from ..limits import TIMEOUT

HERE = Path(__file__).parent
OBJECT_SOURCES = sorted((HERE.parents[1] / "preload").glob("*.c"))

_STRICT = ("-std=gnu11", "-g", "-Wall", "-Wextra", "-Werror", "-pthread")

PLAIN = "plain"

# By name: the compiler's flags.
FLAGS = {
    PLAIN: ("-O2", "-D_FORTIFY_SOURCE=2"),
    "address": ("-O1", "-fsanitize=address,undefined"),
    "thread": ("-O1", "-fsanitize=thread"),
}
BUILDS = tuple(FLAGS)

# The runtimes that must be preloaded first.
_RUNTIMES = {"address": "libasan.so", "thread": "libtsan.so"}

# The sanitizers' environment, for what the programs do on purpose.
OPTIONS = {
    "ASAN_OPTIONS": "detect_leaks=0",  # the search for leaks traces the program
    "UBSAN_OPTIONS": "halt_on_error=1",
    "TSAN_OPTIONS": "die_after_fork=0",
}


@dataclass(frozen=True)
class Build:
    """Compiled programs, and the object of the same build.

    Attributes:
        folder: where the programs are.
        preloaded: their LD_PRELOAD.
    """

    folder: Path
    preloaded: str

    def environment(self, device: str) -> Mapping[str, str]:
        """Return the environment of a program on a fake device."""
        return {**OPTIONS, "LD_PRELOAD": self.preloaded, preload.VARIABLE: device}

    def run(self, program: str, *arguments: str, device: str) -> "subprocess.CompletedProcess[str]":
        """Run a program to its end."""
        return subprocess.run(
            # Some thread sanitizers do not support all of Linux's random addresses.
            ["setarch", "-R", self.folder / program, *arguments],
            env=self.environment(device),
            capture_output=True,
            text=True,
            timeout=TIMEOUT,
            check=False,
        )


def compile_program(binary: Path, sources: list[Path], *options: str) -> None:
    """Compile a C program, with every warning an error."""
    subprocess.run(["cc", *_STRICT, "-o", binary, *sources, *options], check=True, timeout=TIMEOUT)


def build(name: str, folder: Path) -> Build:
    """Compile the programs of this folder, and the object."""
    flags, runtime = FLAGS[name], _RUNTIMES.get(name)
    for source in HERE.glob("*.c"):
        compile_program(folder / source.stem, [source], *flags)
    if runtime is None:
        return Build(folder, str(preload.OBJECT))
    path = subprocess.check_output(["cc", f"-print-file-name={runtime}"], text=True).strip()
    compiled = folder / "object.so"
    compile_program(compiled, OBJECT_SOURCES, *flags, "-fPIC", "-shared", "-fvisibility=hidden")
    return Build(folder, f"{path}:{compiled}")

"""The parts of the checkout that depend on the architecture, built for another one.

The checkout itself does not change: the machine has these at the same paths instead.
"""

import hashlib
import shutil
import tomllib
from collections.abc import Callable
from pathlib import Path

from .cache import cached
from .debian import run
from .errors import Failure
from .progress import say

_PARTS = Path(__file__).resolve().parent
CHECKOUT = _PARTS.parents[1]

_CORE = CHECKOUT / "core"
_MADE = CHECKOUT / "build/arm64"
_VENV = CHECKOUT / ".venv"
_PYTHON = "python3.13"
_SITE = f"lib/{_PYTHON}/site-packages"
_MODULE = "pyxenevtchn/_ffi.abi3.so"

# Wheels for glibc up to Debian 13's.
_PLATFORMS = [f"--platform=manylinux_2_{minor}_aarch64" for minor in range(17, 42)]

_EMIT = "import sys, build_ffi; build_ffi.ffibuilder.emit_c_code(sys.argv[1])"


def programs_for_arm64(system: Path) -> dict[str, Path]:
    """Return what is built for arm64, by its paths in the machine.

    Args:
        system: the machine's root, with Python and its headers.

    Raises:
        Failure: the checkout has no virtual environment, which the build needs.
    """
    if not (_VENV / "bin/pip").exists():
        raise Failure(f"no {_VENV}: run tools/test first, which makes it")
    venv = _built("venv", 100, [CHECKOUT / "pyproject.toml", _editable()], _make_venv)
    sources = [CHECKOUT / "build_ffi.py", *sorted(_CORE.glob("*.[ch]"))]
    module = _built("module", 1, sources, lambda made: _compile(made, system))
    return {
        str(_VENV): venv,
        str(CHECKOUT / _MODULE): module / "module",
        # python3 outside the environment finds its packages too.
        f"/usr/local/lib/{_PYTHON}/dist-packages/checkout.pth": venv / "checkout.pth",
    }


def echo() -> Path:
    """Return a directory with the echo guest's init script and program."""
    script, source = _PARTS / "echo.sh", _PARTS / "echo.c"

    def make(made: Path) -> None:
        run("aarch64-linux-gnu-gcc", "-static", "-O2", "-Wall", source, "-o", made / "echo")
        shutil.copy(script, made / "init")

    return _built("echo", 1, [script, source], make)


def _editable() -> Path:
    """Return the file that makes the host's Python find the checkout; it works for any Python."""
    return next(_VENV.glob("lib/python*/site-packages/__editable__*"))


def _make_venv(made: Path) -> None:
    say("installing pip and the test group for arm64")
    project = tomllib.loads((CHECKOUT / "pyproject.toml").read_text())["project"]
    site = made / _SITE
    options = ["install", "--quiet", "--only-binary=:all:", *_PLATFORMS]
    options += [f"--python-version={_PYTHON.removeprefix('python')}", f"--target={site}"]
    group = f"--group={CHECKOUT / 'pyproject.toml'}:test"
    run(_VENV / "bin/pip", *options, group, "pip", *project["dependencies"])
    for path in _editable().parent.glob("*"):
        if path.name.startswith(("__editable__", f"{project['name']}-")):
            copy = shutil.copytree if path.is_dir() else shutil.copy
            copy(path, site / path.name)
    (made / "bin").mkdir()
    for script in _VENV.glob("bin/*"):
        if script.name in {*project["scripts"], "pytest"}:
            shutil.copy(script, made / "bin")
    for name in ("python", "python3"):
        (made / "bin" / name).symlink_to(f"/usr/bin/{_PYTHON}")
    (made / "pyvenv.cfg").write_text("home = /usr/bin\ninclude-system-site-packages = false\n")
    (made / "checkout.pth").write_text(f"import site; site.addsitedir({str(_VENV / _SITE)!r})\n")


def _compile(made: Path, system: Path) -> None:
    say("compiling the module for arm64")
    source = made / "module.c"
    run(_VENV / "bin/python", "-c", _EMIT, source, cwd=CHECKOUT)
    run(
        *("aarch64-linux-gnu-gcc", "-shared", "-fPIC", "-O2", "-std=gnu11"),
        *("-DPy_LIMITED_API=0x030b0000", f"-I{system}/usr/include/{_PYTHON}", f"-I{_CORE}"),
        *("-idirafter", system / "usr/include", "-o", made / "module"),
        *[source, *sorted(_CORE.glob("*.c"))],
    )


def _built(name: str, megabytes: int, sources: list[Path], make: Callable[[Path], None]) -> Path:
    """Return the directory of this name; rebuild it if the sources have changed."""
    digest = hashlib.sha256(b"".join(source.read_bytes() for source in sources)).hexdigest()

    def make_instead(target: Path) -> None:
        for old in _MADE.glob(f"{name}-*"):
            shutil.rmtree(old)
        make(target)

    _MADE.mkdir(parents=True, exist_ok=True)
    return cached(f"{name}-{digest[:16]}", megabytes, make_instead, parent=_MADE)

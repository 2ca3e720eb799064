"""The compiled parts and the wheel's tag; everything else is in pyproject.toml."""

import platform
import sysconfig
from pathlib import Path
from typing import Any

import setuptools
from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext

# The library that is preloaded into programs: a plain shared object, not a Python module.
PRELOAD = Extension(
    "pyxenevtchn.fake.preload.xenevtchn_preload",
    sorted(map(str, Path("preload").glob("*.c"))),
    depends=sorted(map(str, Path("preload").glob("*.h"))),
    extra_compile_args=["-std=gnu11", "-fvisibility=hidden"],
)


class BuildExtension(build_ext):
    """Gives the preloaded library a plain file name, without Python's ABI tag."""

    def get_ext_filename(self, fullname: str) -> str:
        """Return the extension's file name."""
        if fullname.endswith(PRELOAD.name.rpartition(".")[2]):
            return f"{fullname.replace('.', '/')}.so"
        return str(super().get_ext_filename(fullname))  # type: ignore[no-untyped-call]


# cffi uses the limited API if the interpreter has it, and the wheel's tag must say so.
# Free-threaded interpreters do not have it: their wheels are for one version.
limited_api = not sysconfig.get_config_var("Py_GIL_DISABLED")

# setuptools 77 and newer takes an SPDX expression. It finds the license file by its name.
takes_expression = int(setuptools.__version__.partition(".")[0]) >= 77
licensing: dict[str, Any] = {"license_expression" if takes_expression else "license": "MIT"}

setup(
    **licensing,
    cffi_modules=["build_ffi.py:ffibuilder"],
    # It replaces functions that only the GNU C library has.
    ext_modules=[PRELOAD] if platform.libc_ver()[0] == "glibc" else [],
    cmdclass={"build_ext": BuildExtension},
    options={"bdist_wheel": {"py_limited_api": "cp311"}} if limited_api else {},
)

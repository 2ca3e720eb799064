"""The compiled parts and the wheel's tag; everything else is in pyproject.toml."""

import sysconfig
from pathlib import Path
from typing import Any

import setuptools
from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext

# What is preloaded into programs of any language: a shared object like any, and no module.
PRELOAD = Extension(
    "pyxenevtchn.fake.preload.xenevtchn_preload",
    sorted(map(str, Path("preload").glob("*.c"))),
    depends=sorted(map(str, Path("preload").glob("*.h"))),
    extra_compile_args=["-std=gnu11", "-fvisibility=hidden"],
)


class BuildExtension(build_ext):
    """Names the object as no module is named."""

    def get_ext_filename(self, fullname: str) -> str:
        """Return the file's name."""
        if fullname.endswith(PRELOAD.name.rpartition(".")[2]):
            return f"{fullname.replace('.', '/')}.so"
        return str(super().get_ext_filename(fullname))  # type: ignore[no-untyped-call]


# cffi compiles for the limited API wherever the interpreter has it; the wheel's tag must say so.
# Free-threaded interpreters have none: their wheels are for one version.
limited_api = not sysconfig.get_config_var("Py_GIL_DISABLED")

# An SPDX expression where it can be said. The file is found by its name.
says_expressions = int(setuptools.__version__.partition(".")[0]) >= 77
licensing: dict[str, Any] = {"license_expression" if says_expressions else "license": "MIT"}

setup(
    **licensing,
    cffi_modules=["build_ffi.py:ffibuilder"],
    ext_modules=[PRELOAD],
    cmdclass={"build_ext": BuildExtension},
    options={"bdist_wheel": {"py_limited_api": "cp311"}} if limited_api else {},
)

"""The compiled module and the wheel's tag; everything else is in pyproject.toml."""

import sysconfig

from setuptools import setup

# cffi compiles for the limited API wherever the interpreter has it; the wheel's tag must say so.
# Free-threaded interpreters have none: their wheels are for one version.
limited_api = not sysconfig.get_config_var("Py_GIL_DISABLED")

setup(
    cffi_modules=["build_ffi.py:ffibuilder"],
    options={"bdist_wheel": {"py_limited_api": "cp311"}} if limited_api else {},
)

"""Compile all modules that tests load, and write the paths of all files that they load.

usage: loaded.py FILE PYTEST_ARGUMENT...
"""

import compileall
import sys
from pathlib import Path

import pytest

pytest.main(["--collect-only", "--quiet", *sys.argv[2:]])
compileall.compile_dir("pyxenevtchn", quiet=1)
names = [getattr(module, "__file__", None) for module in [*sys.modules.values()]]
sources = {Path(name) for name in names if name} | {*Path("pyxenevtchn").resolve().rglob("*.py")}
compiled = {
    file for source in sources for file in source.parent.glob(f"__pycache__/{source.stem}.*")
}
mapped = {
    Path(line.split(maxsplit=5)[-1].rstrip())
    for line in Path("/proc/self/maps").read_text().splitlines()
}
files = [file for file in sources | compiled | mapped if file.is_absolute() and file.is_file()]
Path(sys.argv[1]).write_text("".join(f"{file}\n" for file in sorted(files)))

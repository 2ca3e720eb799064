"""Each module imports only modules above it in the tables of layers in CONTRIBUTING.md."""

import ast
import os
import re
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parent.parent
PACKAGE = "pyxenevtchn/"
MODULES = {str(path.relative_to(ROOT)): path for path in (ROOT / PACKAGE).rglob("*.py")}


def layers() -> list[str]:
    """Return the modules in the tables' order; the line before a table names its folder."""
    section = (ROOT / "CONTRIBUTING.md").read_text().partition("## The layers")[2]
    tables = section.partition("\nThe tests:")[0]
    folder, named = "", []
    for line in tables.splitlines():
        if row := re.match(r"\| (`.*?) \|", line):
            named += [os.path.normpath(folder + name) for name in re.findall(r"`(.*?)`", row[1])]
        elif heading := re.search(r", `(\w+/(?:\w+/)*)`,", line):
            folder = heading[1]
    return [name for name in named if re.match(rf"{PACKAGE}.*\.py$", name)]


def imported(module: str) -> Iterator[str]:
    """Yield the package's modules that a module imports, also inside functions and for types."""
    for node in ast.walk(ast.parse(MODULES[module].read_text())):
        if isinstance(node, ast.ImportFrom) and node.level:
            base = Path(module).parents[node.level - 1].joinpath(*(node.module or "").split("."))
            for name in (base / alias.name for alias in node.names):
                found = (f"{name}.py", f"{name}/__init__.py", f"{base}.py", f"{base}/__init__.py")
                yield next((each for each in found if each in MODULES), "")


def test_every_module_with_code_is_in_the_tables() -> None:
    code = {name: ast.parse(path.read_text()).body for name, path in MODULES.items()}
    # An __init__.py with only a docstring imports nothing.
    assert sorted(layers()) == sorted(name for name, body in code.items() if len(body) > 1)


def test_no_module_imports_one_below_it() -> None:
    height = {name: number for number, name in enumerate(layers())}
    arrows = {(name, other) for name in MODULES for other in imported(name) if other}
    assert not {(name, other) for name, other in arrows if height[other] >= height[name]}

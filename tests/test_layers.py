"""The modules import downwards only, by the tables of layers in CONTRIBUTING.md."""

import ast
import os
import re
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parent.parent
PACKAGE = "pyxenevtchn/"
MODULES = {str(path.relative_to(ROOT)): path for path in (ROOT / PACKAGE).rglob("*.py")}

# A name that begins with fake: opens a fake, and a fake's domain opens handles. So this goes up,
# inside a function, and only when such a name is opened.
UP = {("pyxenevtchn/opening.py", "pyxenevtchn/fake/__init__.py")}


def layers() -> list[str]:
    """The modules in the tables' order; the line before a table names the folder it is about."""
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
    """The package's modules that a module imports, wherever it does, for types too."""
    for node in ast.walk(ast.parse(MODULES[module].read_text())):
        if isinstance(node, ast.ImportFrom) and node.level:
            base = Path(module).parents[node.level - 1].joinpath(*(node.module or "").split("."))
            for name in (base / alias.name for alias in node.names):
                found = (f"{name}.py", f"{name}/__init__.py", f"{base}.py", f"{base}/__init__.py")
                yield next((each for each in found if each in MODULES), "")


def test_every_module_with_code_has_its_layer() -> None:
    code = {name: ast.parse(path.read_text()).body for name, path in MODULES.items()}
    # An __init__.py with a docstring alone imports nothing.
    assert sorted(layers()) == sorted(name for name, body in code.items() if len(body) > 1)


def test_every_import_goes_down() -> None:
    height = {name: number for number, name in enumerate(layers())}
    arrows = {(name, other) for name in MODULES for other in imported(name) if other}
    assert {(name, other) for name, other in arrows if height[other] >= height[name]} == UP

import ast
import enum
import inspect
import subprocess
import sys
import tomllib
from pathlib import Path
from types import ModuleType

import pytest

import pyxenevtchn
from pyxenevtchn import Device, fake, pytest_plugin

from .limits import TIMEOUT

ROOT = Path(__file__).parent.parent
TYPED = ROOT / "tests/typing/api.py"

in_every_public_module = pytest.mark.parametrize(
    "module", [pyxenevtchn, fake, pytest_plugin], ids=lambda module: module.__name__
)


def public_members(module: ModuleType) -> dict[str, object]:
    """Return a module's public names and its public classes' members, without enum values."""
    members: dict[str, object] = {name: getattr(module, name) for name in module.__all__}
    for owner in list(members.values()):
        if isinstance(owner, type):
            members |= {
                name: value
                for name, value in vars(owner).items()
                if not name.startswith("_") and not isinstance(value, enum.Enum)
            }
    return members


@in_every_public_module
def test_the_public_names_are_sorted_and_exist(module: ModuleType) -> None:
    names = module.__all__
    assert sorted(names, key=lambda name: (not name.isupper(), name)) == names
    assert all(hasattr(module, name) for name in names)


@in_every_public_module
def test_every_name_outside_all_is_private(module: ModuleType) -> None:
    ours = {
        name
        for name, value in vars(module).items()
        if getattr(value, "__module__", "").startswith("pyxenevtchn") and not name.startswith("_")
    }
    assert ours <= set(module.__all__)


@in_every_public_module
def test_every_public_name_is_described(module: ModuleType) -> None:
    members = public_members(module)
    undescribed = {
        name
        for name, value in members.items()
        if (callable(value) or isinstance(value, property)) and not inspect.getdoc(value)
    }
    seam = {*vars(Device), *Device.__annotations__}
    assert undescribed <= seam  # Device describes the methods of FakeDevice


@pytest.mark.parametrize("module", [pyxenevtchn, fake], ids=lambda module: module.__name__)
def test_type_checkers_see_every_public_name_used(module: ModuleType) -> None:
    nodes = list(ast.walk(ast.parse(TYPED.read_text())))
    used = {node.attr for node in nodes if isinstance(node, ast.Attribute)}
    used |= {node.id for node in nodes if isinstance(node, ast.Name)}
    assert public_members(module).keys() <= used


def test_the_version_is_that_of_the_distribution() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert pyxenevtchn.__version__ == project["version"]


def test_importing_loads_only_what_every_user_needs() -> None:
    loaded = subprocess.run(
        [sys.executable, "-c", "import pyxenevtchn, sys; print(*sys.modules)"],
        capture_output=True,
        text=True,
        timeout=TIMEOUT,
        check=True,
    ).stdout.split()
    assert "pyxenevtchn.errors" in loaded
    unwanted = {"pyxenevtchn._ffi", "pyxenevtchn.channel", "pyxenevtchn.fake", "_cffi_backend"}
    assert not {*unwanted, "cffi", "click", "asyncio", "importlib.metadata"} & set(loaded)

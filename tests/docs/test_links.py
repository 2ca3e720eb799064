"""The files that the pages link to exist, and so do the tests that they name."""

import re
from pathlib import Path
from types import ModuleType

import pytest

import pyxenevtchn.fake
import pyxenevtchn.pytest_plugin

from .pages import PAGES, ROOT


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_file_that_a_page_links_to_exists(page: Path) -> None:
    linked = re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", page.read_text())
    assert [link for link in linked if not (page.parent / link).exists()] == []


def test_every_test_that_a_page_names_exists() -> None:
    named = {
        name for page in PAGES for name in re.findall(r"\btest_\w+\.py::test_\w+", page.read_text())
    }
    there = {
        f"{file.name}::{name}"
        for file in (ROOT / "tests").rglob("test_*.py")
        for name in re.findall(r"^(?:async )?def (test_\w+)", file.read_text(), re.MULTILINE)
    }
    assert named
    assert not named - there


@pytest.mark.parametrize(
    ("module", "page"),
    [
        (pyxenevtchn, "api.md"),
        (pyxenevtchn.fake, "fake.md"),
        (pyxenevtchn.pytest_plugin, "fake.md"),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_every_public_name_is_in_the_reference(module: ModuleType, page: str) -> None:
    reference = (ROOT / "docs/reference" / page).read_text()
    assert [name for name in module.__all__ if not re.search(rf"\b{name}\b", reference)] == []

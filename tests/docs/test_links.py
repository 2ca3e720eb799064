"""The files that the pages link to exist, and so do the tests that they name."""

import re
from pathlib import Path

import pytest

import pyxenevtchn

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


def test_every_public_name_is_in_the_reference() -> None:
    reference = (ROOT / "docs/reference/api.md").read_text()
    assert [name for name in pyxenevtchn.__all__ if name not in reference] == []

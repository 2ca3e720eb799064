"""The tests that the pages name exist."""

import re

from .pages import PAGES, ROOT


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

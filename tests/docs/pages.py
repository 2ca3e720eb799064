"""The pages of the documentation, and the blocks of code in them."""

import re
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parent.parent.parent
PAGES = [*sorted(ROOT.glob("*.md")), *sorted((ROOT / "docs").rglob("*.md"))]


def fenced(language: str) -> re.Pattern[str]:
    """Return a pattern for the fenced blocks of a language, without their fences."""
    return re.compile(rf"(?<=^```{language}\n)(.*?)(?=^```$)", re.DOTALL | re.MULTILINE)


def blocks(language: str) -> Iterator[tuple[str, str]]:
    """Yield the pages' blocks of a language: the place of each, and its text."""
    for page in PAGES:
        text = page.read_text()
        for match in fenced(language).finditer(text):
            line = text.count("\n", 0, match.start()) + 1
            yield f"{page.relative_to(ROOT)}:{line}", match[0]

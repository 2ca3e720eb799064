"""The README's Python runs as it stands."""

import re
from pathlib import Path

import pytest

README = Path(__file__).parent.parent / "README.md"
BLOCKS = re.findall(r"^```python\n(.*?)^```$", README.read_text(), re.DOTALL | re.MULTILINE)


@pytest.mark.parametrize("block", BLOCKS, ids=range(len(BLOCKS)))
def test_an_example_runs_on_the_fake(block: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XENEVTCHN_DEVICE", "fake:")
    exec(compile(block, str(README), "exec"), {})  # noqa: S102 - the project's own examples

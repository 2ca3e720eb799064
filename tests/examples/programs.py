"""The examples, run as processes."""

import sys
from contextlib import AbstractContextManager
from pathlib import Path

from ..command import Argument, Running, running

EXAMPLES = Path(__file__).parent.parent.parent / "docs" / "examples"


def running_example(
    name: str, *arguments: Argument, device: str
) -> AbstractContextManager[Running]:
    """Start an example on pipes; kill it if it has not ended."""
    program = EXAMPLES / f"{name}.py"
    return running("-W", "error", program, *arguments, device=device, program=sys.executable)

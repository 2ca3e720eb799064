from collections.abc import Iterator
from pathlib import Path

import pytest

from .process import ServerProcess, SharedServer, serving


@pytest.fixture
def server(shared_server: SharedServer) -> Iterator[ServerProcess]:
    """A server that others use before and after: it is clean in the end."""
    with shared_server.lend() as lent:
        yield lent


@pytest.fixture
def own_server(tmp_path: Path) -> Iterator[ServerProcess]:
    """A server to be done with as one likes."""
    with serving(tmp_path / "socket") as started:
        yield started

from collections.abc import Iterator

import pytest

from ..conftest import DEVICE_NODE
from ..fake_server.process import SharedServer


@pytest.fixture
def device(backend: str, shared_server: SharedServer) -> Iterator[str]:
    """The name of a device, in dom0; a server is clean in the end."""
    if backend == "server":
        with shared_server.lend() as lent:
            yield lent.name()
    else:
        yield DEVICE_NODE if backend == "real" else "fake:"

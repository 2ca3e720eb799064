"""The server as people run it: a process of its own."""

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from pyxenevtchn.fake.remote import RemoteHypervisor

from ..command import COMMAND


@dataclass(frozen=True)
class ServerProcess:
    """A server that listens.

    Attributes:
        process: the process; its standard output is at the line after the first.
        path: its socket.
        xen: its hypervisor.
    """

    process: "subprocess.Popen[str]"
    path: Path
    xen: RemoteHypervisor

    def name(self, domid: int = 0) -> str:
        """What a handle in one of its domains is opened by."""
        return f"fake:unix:{self.path}?domid={domid}" if domid else f"fake:unix:{self.path}"

    def stop(self) -> None:
        """End it, if it has not ended yet."""
        self.process.terminate()
        self.process.wait()
        assert self.process.stdout is not None
        self.process.stdout.close()


def start_server(path: Path) -> ServerProcess:
    """Start a server at ``path`` and wait until clients can come."""
    process = subprocess.Popen(
        [COMMAND, "fake", "serve", "--socket", path], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stdout.readline() == f"serving fake:unix:{path}\n"
    return ServerProcess(process, path, RemoteHypervisor(path))


@contextmanager
def serving(path: Path) -> Iterator[ServerProcess]:
    """Run a server at ``path`` for as long as the context lasts."""
    server = start_server(path)
    try:
        yield server
    finally:
        server.stop()


class SharedServer:
    """One server for many tests, as long as each leaves it as it found it."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._server: ServerProcess | None = None

    @contextmanager
    def lend(self) -> Iterator[ServerProcess]:
        """Lend it to a test, and check that it is clean in the end; if not, start another."""
        if self._server is None:
            self._server = start_server(self._path)
        server = self._server
        try:
            yield server
            server.xen.check_clean()
        except BaseException:
            self.stop()
            raise

    def stop(self) -> None:
        """End it, if there is one."""
        server, self._server = self._server, None
        if server is not None:
            server.stop()

"""A server in a process of its own, as users run it."""

import signal
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from pyxenevtchn.fake.server.remote import RemoteHypervisor

from ...command import Running, running


@dataclass(frozen=True)
class ServerProcess:
    """A server that listens.

    Attributes:
        running: the process; the first line of its output has been read.
        path: its socket.
        xen: its hypervisor.
    """

    running: Running
    path: Path
    xen: RemoteHypervisor

    @property
    def process(self) -> "subprocess.Popen[bytes]":
        """The process."""
        return self.running.process

    def name(self, domid: int = 0) -> str:
        """Return the device's name for a handle in one of its domains."""
        return f"fake:unix:{self.path}?domid={domid}" if domid else f"fake:unix:{self.path}"

    def stop(self) -> None:
        """End it, if it has not ended yet."""
        self.running.signal(signal.SIGTERM)
        self.running.end()


@contextmanager
def serving(path: Path, *options: str) -> Iterator[ServerProcess]:
    """Run a server at ``path`` for as long as the context lasts."""
    with running("fake", "serve", "--socket", path, *options) as process:
        assert process.line() == f"serving fake:unix:{path}"
        server = ServerProcess(process, path, RemoteHypervisor(path))
        try:
            yield server
        finally:
            server.stop()


class SharedServer:
    """One server for many tests, as long as each leaves it clean."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._stack = ExitStack()
        self._server: ServerProcess | None = None

    @contextmanager
    def lend(self) -> Iterator[ServerProcess]:
        """Lend it to a test, and check that it is clean at the end; if not, stop it."""
        if self._server is None:
            self._server = self._stack.enter_context(serving(self._path))
        try:
            yield self._server
            self._server.xen.check_clean()
        except BaseException:
            self.stop()
            raise

    def stop(self) -> None:
        """End it, if there is one."""
        self._server = None
        self._stack.close()

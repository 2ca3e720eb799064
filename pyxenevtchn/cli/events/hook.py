"""Runs the user's command for an event."""

import os
import subprocess
from collections.abc import Mapping

from ..output import warn


class Hook:
    """Runs the user's command for an event, with its port and source in the environment."""

    def __init__(self, command: str, sources: Mapping[int, str]) -> None:
        self._command = command
        self._sources = sources

    def __call__(self, port: int) -> None:
        """Run the command and wait for its end; report a failure on standard error."""
        source = self._sources[port]
        about = f"{self._command!r}, for {source} on port {port},"
        environment = {**os.environ, "XENEVTCHN_PORT": str(port), "XENEVTCHN_SOURCE": source}
        try:
            status = subprocess.run(  # noqa: S603 - the user's own command
                ["/bin/sh", "-c", self._command],
                env=environment,
                stdin=subprocess.DEVNULL,
                check=False,
            ).returncode
        except OSError as error:
            warn(f"{about} could not be run: {error.strerror}")
            return
        if status < 0:
            warn(f"{about} was killed by signal {-status}")
        elif status:
            warn(f"{about} exited with status {status}")

"""Which clients the server turns away."""

import contextlib
import errno
import os
import resource
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from pyxenevtchn import DOMID_SELF, EventChannel, Virq
from pyxenevtchn.fake.server.server import may_connect

from ...limits import TIMEOUT
from .process import ServerProcess, serving


def test_the_servers_own_user_and_root_may_connect() -> None:
    assert may_connect(os.geteuid())
    assert may_connect(0)
    assert not may_connect(os.geteuid() + 1)


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root: it becomes somebody else")
def test_another_user_is_turned_away() -> None:
    """Even if the mode of the socket allows everyone."""
    program = """
import socket, sys

connection = socket.socket(socket.AF_UNIX)
connection.settimeout(20)
try:
    connection.connect(sys.argv[1])
except PermissionError:
    sys.exit("refused")
try:
    connection.send(b"open 0\\n")
except BrokenPipeError:
    pass
sys.exit(connection.recv(1000))
"""

    def as_nobody(*command: str | Path) -> "subprocess.CompletedProcess[str]":
        become = ["setpriv", "--reuid=65534", "--clear-groups"]
        return subprocess.run(
            [*become, *command], capture_output=True, text=True, timeout=TIMEOUT, check=False
        )

    # The first may be in a folder of root's.
    pythons = [[python, "-I", "-S", "-c"] for python in (sys.executable, "/usr/bin/python3")]
    usable = [python for python in pythons if not as_nobody(*python, "pass").returncode]
    if not usable:
        pytest.skip("needs an interpreter that another user can run")
    client = [*usable[0], program]
    # In a folder that everyone can enter.
    with TemporaryDirectory() as directory:
        Path(directory).chmod(0o755)
        with serving(Path(directory, "socket")) as server:
            assert as_nobody(*client, server.path).stderr == "refused\n"
            server.path.chmod(0o666)
            answer = f"error {errno.EACCES} the server is another user's"
            assert answer in as_nobody(*client, server.path).stderr


def test_a_server_without_descriptors_turns_clients_away_and_goes_on(
    own_server: ServerProcess,
) -> None:
    with EventChannel.open(own_server.name()) as channel:
        channel.bind_virq(Virq.DEBUG)
        resource.prlimit(own_server.process.pid, resource.RLIMIT_NOFILE, (20, 20))
        with contextlib.ExitStack() as stack:
            for _ in range(20):
                try:
                    stack.enter_context(EventChannel.open(own_server.name()))
                except OSError as error:
                    assert error.errno == errno.EMFILE  # noqa: PT017 - some succeed
            assert channel.bind_unbound_port(DOMID_SELF)
        assert own_server.xen.ports(0)

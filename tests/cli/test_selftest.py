"""xenevtchn selftest."""

import errno
import os
import re

import pytest

from ..command import run
from ..fake.server.process import ServerProcess


@pytest.mark.backends("fake", "server", "preload", "real")
def test_a_good_device_passes_every_check(device: str) -> None:
    result = run("selftest", device=device)
    assert (result.returncode, result.stderr) == (0, ""), result.stdout
    *lines, last = result.stdout.splitlines()
    assert len(lines) > 10
    assert all(re.match(r"ok {6}[A-Z]", line) for line in lines)
    assert last == f"{len(lines)} ok, 0 failed"


@pytest.mark.backends("server")
def test_a_check_that_fails_says_why_and_the_others_go_on(own_server: ServerProcess) -> None:
    own_server.xen.fail_next(0, "bind_interdomain", errno.EIO)
    result = run("selftest", device=own_server.name())
    assert (result.returncode, result.stderr) == (1, "")
    first, *others, last = result.stdout.splitlines()
    assert first.startswith("FAILED  A connection starts with one event, which nobody sent: ")
    assert first.endswith(f": {os.strerror(errno.EIO)}")
    assert all(line.startswith("ok ") for line in others)
    assert last == f"{len(others)} ok, 1 failed"
    own_server.xen.check_clean()


@pytest.mark.backends("fake")
def test_no_device_is_one_message() -> None:
    result = run("selftest", device="/dev/null/evtchn")
    assert (result.returncode, result.stdout) == (1, "")
    assert result.stderr.startswith("Error: /dev/null/evtchn: Not a directory\n")

"""The commands on static event channels, those of tools/xenvm --arch arm64 --static."""

import pytest

from ..command import run, running
from ..conftest import DEVICE_NODE
from ..machines import FAR, NEAR, TO_ECHO, TO_TICK

pytestmark = [pytest.mark.backends("real"), pytest.mark.only("static")]

MINE = "--yes-this-port-is-mine"


@pytest.mark.usefixtures("backend")
def test_watch_sees_what_notify_sends() -> None:
    arguments = ("watch", "--static", str(FAR), MINE, "--banner", "-n", "2")
    with running(*arguments, device=DEVICE_NODE) as watch:
        assert watch.line() == f"port {FAR} is static:{FAR}"
        for _ in range(2):
            sent = run("notify", "--static", str(NEAR), MINE, device=DEVICE_NODE)
            assert (sent.returncode, sent.stderr) == (0, "")
            assert watch.line().endswith(f" {FAR} static:{FAR}")
        assert watch.end().status == 0


@pytest.mark.usefixtures("backend")
def test_watch_sees_what_another_domain_sends() -> None:
    with running("watch", "--static", str(TO_TICK), MINE, "-n", "2", device=DEVICE_NODE) as watch:
        for _ in range(2):
            assert watch.line().endswith(f" {TO_TICK} static:{TO_TICK}")
        assert watch.end().status == 0


@pytest.mark.usefixtures("backend")
def test_notify_reaches_another_domain() -> None:
    sent = run("notify", "--static", str(TO_ECHO), MINE, device=DEVICE_NODE)
    assert (sent.returncode, sent.stdout, sent.stderr) == (0, "", "")

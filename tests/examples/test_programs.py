"""throttle.py, split_driver.py and live_update.py, and checks of all examples."""

import re
from pathlib import Path

import pytest

from pyxenevtchn import DOMID_SELF

from ..fake.server.process import ServerProcess
from .programs import EXAMPLES, running_example

NAMES = sorted(path.stem for path in EXAMPLES.glob("*.py"))
SQUARES = [f"the square of {number} is {number**2}" for number in range(1, 6)]


def test_a_throttle_lets_through_no_more_than_its_limit(device: str) -> None:
    with running_example("throttle", "--limit", "2", device=device) as program:
        without = re.fullmatch(r"without a throttle: (\d+) events/s", program.line())
        throttled = re.fullmatch(r"with a throttle: (\d+) events/s", program.line())
        assert program.end() == (0, "", "")
    assert without
    assert throttled
    # One more than the limit: the first comes at once.
    assert 0 < int(throttled[1]) <= 3 < int(without[1])


def test_a_live_update_loses_and_repeats_no_event(device: str) -> None:
    with running_example("live_update", device=device) as program:
        for version in (1, 2, 3):
            assert program.line() == f"version {version} has 8 ports"
        assert program.line() == "sent 8, handled 8"
        assert program.end() == (0, "", "")


def drive(page: Path, front: tuple[str, int], back: tuple[str, int]) -> None:
    """Run a frontend and a backend; each has a device and the domid of its peer."""
    with running_example(
        "split_driver", "frontend", page, "--peer", str(front[1]), device=front[0]
    ) as frontend:
        port = frontend.line().removeprefix("port ")
        with running_example(
            "split_driver", "backend", page, port, "--peer", str(back[1]), device=back[0]
        ) as backend:
            assert [frontend.line() for _ in SQUARES] == SQUARES
            assert frontend.end() == (0, "", "")
            assert backend.end() == (0, "connected\nanswered 5 requests\n", "")


@pytest.mark.backends("server", "preload", "real")
def test_a_split_driver_works_within_a_domain(device: str, tmp_path: Path) -> None:
    drive(tmp_path / "page", (device, DOMID_SELF), (device, DOMID_SELF))


@pytest.mark.backends("server")
@pytest.mark.usefixtures("backend")
def test_a_split_driver_works_between_domains(server: ServerProcess, tmp_path: Path) -> None:
    drive(tmp_path / "page", (server.name(3), 0), (server.name(), 3))


@pytest.mark.backends("server", "preload", "real")
def test_a_frontend_ends_at_ctrl_c_before_there_is_a_backend(device: str, tmp_path: Path) -> None:
    with running_example("split_driver", "frontend", tmp_path / "page", device=device) as program:
        assert program.line().startswith("port ")
        assert program.interrupt() == (130, "", "")


@pytest.mark.backends("fake")
@pytest.mark.usefixtures("backend")
@pytest.mark.parametrize("name", NAMES)
def test_an_error_comes_with_its_hint_and_without_a_traceback(name: str, tmp_path: Path) -> None:
    arguments = {
        "split_driver": ["frontend", str(tmp_path / "page")],
        "console_backend": ["guest"],
    }
    missing = str(tmp_path / "no-device")
    with running_example(name, *arguments.get(name, []), device=missing) as program:
        ended = program.end()
    assert (ended.status, ended.output) == (1, "")
    error, hint = ended.errors.splitlines()
    assert missing in error
    assert hint


@pytest.mark.backends("fake")
@pytest.mark.usefixtures("backend")
def test_the_list_of_examples_is_complete() -> None:
    listed = re.findall(r"\]\((\w+)\.py\)", (EXAMPLES / "README.md").read_text())
    assert sorted(listed) == NAMES

"""Opening a device by name, and the errors of that."""

import errno
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import pyxenevtchn
from pyxenevtchn import EventChannel

from .descriptors import descriptors
from .limits import TIMEOUT


def test_no_device_at_all(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError) as caught:
        EventChannel.open(tmp_path / "evtchn")
    assert caught.value.filename == str(tmp_path / "evtchn")
    assert caught.value.__notes__


def test_the_environment_names_the_device(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XENEVTCHN_DEVICE", str(tmp_path / "from-the-environment"))
    with pytest.raises(FileNotFoundError, match="from-the-environment"):
        EventChannel.open()
    monkeypatch.setenv("XENEVTCHN_DEVICE", "fake:")
    with EventChannel.open() as channel:
        assert channel.name.startswith("fake:")


def test_no_permission(tmp_path: Path) -> None:
    path = tmp_path / "evtchn"
    path.touch(mode=0)
    me = os.geteuid()
    if me == 0:
        os.seteuid(65534)  # root may open anything
    try:
        with pytest.raises(PermissionError) as caught:
            EventChannel.open(path)
    finally:
        os.seteuid(me)
    assert f"read and write access to {path}" in caught.value.__notes__[0]


@pytest.mark.parametrize("kind", ["file", "fifo", "folder"])
def test_a_path_that_is_no_device(tmp_path: Path, kind: str) -> None:
    path = tmp_path / kind
    {"file": path.touch, "fifo": lambda: os.mkfifo(path), "folder": path.mkdir}[kind]()
    before = descriptors()
    with pytest.raises(OSError, match=str(path)) as caught:
        EventChannel.open(path)
    assert caught.value.errno in {errno.ENOTTY, errno.EISDIR}
    assert descriptors() == before


@pytest.mark.parametrize("path", ["/dev/null", "/dev/zero", "/dev/random"])
def test_another_kind_of_device(path: str) -> None:
    before = descriptors()
    with pytest.raises(OSError, match=path) as caught:
        EventChannel.open(path)
    assert caught.value.errno == errno.ENOTTY
    assert "does not belong to the event-channel driver" in caught.value.__notes__[0]
    assert descriptors() == before


def test_a_name_is_no_device() -> None:
    with pytest.raises(TypeError, match=r"EventChannel\.open"):
        EventChannel("fake:")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="null"):
        EventChannel.open("/dev/xen/evtchn\0")


def test_a_source_folder_without_the_compiled_module_says_what_to_do(tmp_path: Path) -> None:
    source = Path(pyxenevtchn.__file__).parent
    shutil.copytree(source, tmp_path / source.name, ignore=shutil.ignore_patterns("*.so"))
    result = subprocess.run(
        [sys.executable, "-S", "-c", "import pyxenevtchn as p; p.EventChannel.open('/dev/null')"],
        env={**os.environ, "PYTHONPATH": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=TIMEOUT,
        check=False,
    )
    assert "pip install --editable ." in result.stderr

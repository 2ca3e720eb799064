"""xenevtchn doctor."""

import json
import os
import platform
import re
import stat
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from pyxenevtchn.cli.commands.findings import Finding, examine

from ..command import COMMAND, environment, run
from ..conftest import DEVICE_NODE
from ..limits import TIMEOUT

FEATURES_OF_DOM0, FEATURES_OF_DOMU = "00000000,00002c71", "00000000,00000371"


def findings(*arguments: str, device: str) -> tuple[int, dict[str, Any]]:
    result = run("doctor", "--json", *arguments, device=device)
    (line,) = result.stdout.splitlines()
    assert result.stderr == ""
    return result.returncode, json.loads(line)


def hints(device: str, root: Path) -> dict[str, Finding]:
    return {finding.name: finding for finding in examine(device, root)}


@pytest.mark.backends("fake", "server")
def test_a_fake_can_be_used_anywhere(device: str) -> None:
    status, told = findings(device=device)
    assert (status, told["usable"], told["device"]) == (0, True, device)
    assert {name for name, finding in told["findings"].items() if not finding["ok"]} == set()
    assert told["findings"]["device"]["text"] == f"{device} is a fake: no Xen is needed"
    assert told["findings"]["open"]["text"] == f"{device} can be opened"
    assert re.fullmatch(
        r"this domain has \d+; its VIRQs: TIMER \(port 1\), .*", told["findings"]["ports"]["text"]
    )


def test_a_report_has_the_fields_that_a_maintainer_needs() -> None:
    _, told = findings(device="fake:")
    assert list(told) == ["version", "python", "machine", "usable", "device", "findings"]
    assert told["version"] in run("--version").stdout
    assert told["python"].endswith(f" {platform.python_version()}")
    assert told["machine"] == platform.machine()


@pytest.mark.backends("real")
def test_a_real_device_can_be_used(device: str) -> None:
    status, told = findings(device=device)
    assert (status, told["usable"]) == (0, True)
    found = told["findings"]
    assert list(found) == [
        *("kernel", "xen", "domain", "driver", "node"),
        *("open", "bind_static", "ports"),
    ]
    assert all(finding["ok"] and finding["hint"] is None for finding in found.values())
    assert re.match(r"Xen 4\.\d+", found["xen"]["text"])
    assert found["domain"]["text"].startswith("dom0 ")
    assert found["driver"]["text"] == "loaded as a module"
    assert "CONSOLE (port " in found["ports"]["text"]
    release = tuple(int(number) for number in os.uname().release.split(".")[:2])
    assert found["bind_static"]["text"].startswith(
        "supported" if release >= (6, 6) else "not supported by this kernel"
    )


@pytest.mark.backends("preload")
def test_a_port_table_that_cannot_be_read_is_no_fault(device: str) -> None:
    _, told = findings(device=device)
    assert told["usable"]
    ports = told["findings"]["ports"]
    assert (ports["ok"], ports["text"]) == (True, "not known: No such file or directory")
    assert ports["hint"]


@pytest.mark.backends("fake")
def test_as_text_it_is_a_line_for_each_finding_and_a_summary() -> None:
    result = run("doctor")
    assert (result.returncode, result.stderr) == (0, "")
    *lines, last = result.stdout.splitlines()
    assert all(re.match(r"ok {5}\w+: ", line) for line in lines)
    assert last == "The device can be used."


@pytest.mark.backends("fake")
def test_no_device_is_status_1_and_a_hint(tmp_path: Path) -> None:
    missing = tmp_path / "evtchn"
    result = run("doctor", device=str(missing))
    assert (result.returncode, result.stderr) == (1, "")
    lines = result.stdout.splitlines()
    assert f"FAULT  node: {missing}: No such file or directory" in lines
    assert "FAULT  open: No such file or directory" in lines
    assert lines[-1] == "The device cannot be used."


@pytest.mark.backends("fake")
@pytest.mark.parametrize("kind", ["directory", "file", "null"])
def test_a_node_that_is_something_else_is_status_1(tmp_path: Path, kind: str) -> None:
    file = tmp_path / "file"
    file.touch()
    device = {"directory": tmp_path, "file": file, "null": Path("/dev/null")}[kind]
    status, told = findings(device=str(device))
    assert (status, told["usable"], told["findings"]["open"]["ok"]) == (1, False, False)


@pytest.fixture
def node_of_root() -> Iterator[Path]:
    """A device node that only root may open, in a folder that every user may read."""
    if os.geteuid() != 0:
        pytest.skip("needs root: it makes a device node, and becomes another user")
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        node = Path(folder, "evtchn")
        try:
            os.mknod(node, 0o600 | stat.S_IFCHR, Path("/dev/null").stat().st_rdev)
        except PermissionError:
            pytest.skip("needs a root who can make a device node")
        yield node


@pytest.mark.backends("fake")
def test_no_permission_is_status_1_and_a_hint(node_of_root: Path) -> None:
    # Load everything first: the other user may have no access to the project's files.
    load = (
        "from pyxenevtchn.cli import root; import os, pyxenevtchn.kernel;"
        " import pyxenevtchn.cli.commands.doctor"
    )
    run = "os.setuid(65534); root.xenevtchn(['doctor'])"
    result = subprocess.run(
        [Path(COMMAND).with_name("python"), "-c", f"{load}; {run}"],
        env=environment(str(node_of_root)),
        capture_output=True,
        text=True,
        timeout=TIMEOUT,
        check=False,
    )
    assert (result.returncode, result.stderr) == (1, "")
    mode = "crw-------, of user 0 and group 0"
    node = f"FAULT  node: {node_of_root}: {mode}: no access for user 65534\n"
    hint = "       Hint: run as root, or give user 65534 read and write access (a udev rule)\n"
    assert node + hint in result.stdout
    assert "FAULT  open: Permission denied\n" in result.stdout


def machine(root: Path, **files: str) -> Path:
    """Create files below a folder; in their names ``__`` stands for a slash."""
    for name, text in files.items():
        path = root / name.replace("__", "/")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root


@pytest.mark.backends("fake")
def test_a_driver_that_is_not_loaded(tmp_path: Path) -> None:
    root = machine(tmp_path, sys__hypervisor__type="xen\n", proc__misc=" 62 other\n")
    told = hints(str(root / "none"), root)
    assert not told["driver"].ok
    assert (told["driver"].hint or "").startswith("modprobe xen-evtchn")
    assert told["xen"].ok


@pytest.mark.backends("fake")
@pytest.mark.parametrize(
    ("features", "kind"), [(FEATURES_OF_DOM0, "dom0"), (FEATURES_OF_DOMU, "domU")]
)
def test_dom0_and_domu(tmp_path: Path, features: str, kind: str) -> None:
    root = machine(tmp_path, sys__hypervisor__type="xen")
    machine(root, sys__hypervisor__properties__features=features.partition(",")[2])
    assert hints(str(root / "none"), root)["domain"].text.startswith(f"{kind} ")


@pytest.mark.backends("fake")
def test_another_hypervisor_is_named(tmp_path: Path) -> None:
    told = hints(DEVICE_NODE, machine(tmp_path, sys__hypervisor__type="kvm\n"))
    assert told["xen"].text == "this machine runs under kvm, not Xen"
    assert "XENEVTCHN_DEVICE=fake:" in (told["xen"].hint or "")
    assert "domain" not in told


@pytest.mark.backends("fake")
def test_a_node_that_is_missing_or_belongs_to_another_driver(tmp_path: Path) -> None:
    root = machine(tmp_path, proc__misc=" 61 xen/evtchn\n")
    missing = root / "dev" / "evtchn"
    node = hints(str(missing), root)["node"]
    assert node.hint == f"mkdir -p {missing.parent}; mknod {missing} c 10 61"
    node = hints("/dev/null", root)["node"]
    assert node.hint == "the driver's numbers are 10,61: mknod /dev/null c 10 61"

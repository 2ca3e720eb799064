"""Run the tests in a machine, and report the result."""

import json
import os
import subprocess
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from xml.etree import ElementTree as ET

ROOT = Path(__file__).resolve().parents[2]

RESULTS = ROOT / "build/xen"

# In seconds; far more than any machine takes on two processors.
LIMIT = 3600

# The exit statuses of tools/xenvm.
_PROBLEMS = {
    1: "tests failed",
    122: "the machine died under the tests",
    123: "Xen or Linux warned",
    124: "the tests did not end in time",
    125: "the machine did not boot",
}

# Runs its arguments except the first, and then writes the versions of Linux and Xen to that file.
_SCRIPT = """\
versions=$1; shift
"$@"; status=$?
{ uname -r; cd /sys/hypervisor/version; printf %s.%s%s "$(cat major)" "$(cat minor)" "$(cat extra)"
} >"$versions"
exit $status
"""

PYTHON = ".venv/bin/python"

# The arguments of pytest in all machines.
_PYTEST = (
    *("-p", "no:cacheprovider", "-p", "no:randomly"),
    # Its plugin imports all of hypothesis, which takes 20 seconds on an emulated processor.
    *("-p", "no:hypothesispytest"),
    # The differential test makes as many sequences as it can in this time.
    *("--device=real", "--timeout=600", "--stride=300", "--seconds=100"),
)


@dataclass(frozen=True, slots=True)
class Result:
    """The result of the tests in a machine.

    Attributes:
        name: the machine's.
        problem: what went wrong; empty if all tests passed.
        passed: how many tests passed.
        skipped: how many were skipped.
        seconds: the time of the whole run, including the boot.
        linux: the version of the kernel that the tests ran on.
        xen: the version of the hypervisor.
        date: the day of the run, such as 2026-07-02.
    """

    name: str
    problem: str
    passed: int
    skipped: int
    seconds: int
    linux: str
    xen: str
    date: str

    def __str__(self) -> str:
        outcome = self.problem or "passed"
        return (
            f"{self.name:14} {outcome}: {self.passed} passed, {self.skipped} skipped, "
            f"in {self.seconds} s, on Linux {self.linux}, Xen {self.xen}"
        )


def save(result: Result) -> None:
    """Save the result of all tests of a machine."""
    _saved_file(result.name).write_text(json.dumps(asdict(result)))


def saved(name: str) -> Result | None:
    """Return the saved result of a machine, if there is one."""
    file = _saved_file(name)
    return Result(**json.loads(file.read_text())) if file.exists() else None


def _saved_file(name: str) -> Path:
    return RESULTS / f"{name}.json"


def run(name: str, options: Sequence[str], arguments: Sequence[str]) -> Result:
    """Run the tests in a machine, and print their output and the result."""
    RESULTS.mkdir(parents=True, exist_ok=True)
    report, versions = RESULTS / f"{name}.xml", RESULTS / f"{name}.versions"
    for old in (report, versions):
        old.unlink(missing_ok=True)
    print(f"{name}: starts", flush=True)
    start = time.monotonic()
    tests = [*_PYTEST, f"--junitxml={report}", *arguments]
    # Compiled modules are kept: to compile one takes long on an emulated processor.
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"}
    files = _loaded_files(name, tests, environment)
    in_guest = any(option.startswith("--guest") for option in options)
    command = [
        *(f"{ROOT}/tools/xenvm", *options, f"--timeout={LIMIT}", "--fail-on-warnings"),
        *(f"--share={RESULTS}", f"--console={RESULTS / name}.console"),
        *([f"--copy={files}"] if in_guest else ()),
        *("--", "sh", "-c", _SCRIPT, "sh", str(versions), PYTHON, "-m", "pytest", *tests),
    ]
    log = RESULTS / f"{name}.log"
    with log.open("w") as file:
        status = subprocess.run(
            command,
            cwd=ROOT,
            env=environment,
            stdout=file,
            stderr=subprocess.STDOUT,
            check=False,
        ).returncode
    seconds = round(time.monotonic() - start)
    problem = _PROBLEMS.get(status, f"exit status {status}") if status else ""
    linux, xen = versions.read_text().split() if versions.exists() else ("?", "?")
    passed, skipped = _counts(report)
    result = Result(
        name,
        problem,
        passed,
        skipped,
        seconds,
        linux,
        xen,
        time.strftime("%Y-%m-%d", time.gmtime()),
    )
    print(f"=== {name}: {' '.join(options)} ===\n{log.read_text()}{result}", flush=True)
    return result


def _loaded_files(name: str, tests: Sequence[str], environment: Mapping[str, str]) -> Path:
    """Compile what the tests load; return the path of a list of the files that they load."""
    files = RESULTS / f"{name}.files"
    # Not with its folder on the path, where it would find modules of other names.
    loader = [PYTHON, "-P", "tools/xentest_parts/loaded.py", str(files), *tests]
    subprocess.run(loader, cwd=ROOT, env=environment, stdout=subprocess.DEVNULL, check=True)
    return files


def _counts(report: Path) -> tuple[int, int]:
    """Return how many tests passed and how many were skipped, as pytest reports it."""
    if not report.exists():
        return 0, 0
    suite = ET.parse(report).getroot()[0]  # noqa: S314 - pytest wrote it
    tests, failures, errors, skipped = (
        int(suite.get(name, 0)) for name in ("tests", "failures", "errors", "skipped")
    )
    return tests - failures - errors - skipped, skipped

"""Compare the fake with the driver in a machine, in many random sequences of calls.

The fake's answers are recorded here, and replayed there (see tests/differential/recording.py).
"""

import subprocess
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

from .run import LIMIT, PYTHON, RESULTS, ROOT

# Runs there: the recorder waits for the description of the machine.
_SCRIPT = """\
"$1" -m tests.differential.recording --describe >"$2/unfinished.json"
mv "$2/unfinished.json" "$2/machine.json"
"$2/replay" "$2" "$3"
"""


def replay(name: str, options: Sequence[str], sequences: int) -> int:
    """Replay so many sequences in a machine, and print the result; return xenvm's exit status."""
    RESULTS.mkdir(parents=True, exist_ok=True)
    limit = LIMIT + sequences  # a second each is far more than any machine takes
    print(f"{name}: {sequences} sequences", flush=True)
    # Not below /tmp, which the machine may have for itself.
    with TemporaryDirectory(dir=RESULTS) as folder:
        program = Path(folder, "replay")
        source = ROOT / "tests/differential/replay.c"
        subprocess.run(["cc", "-Wall", "-Wextra", "-O2", "-o", program, source], check=True)
        recorder = subprocess.Popen(
            [PYTHON, "-m", "tests.differential.recording", folder, f"--sequences={sequences}"],
            cwd=ROOT,
        )
        try:
            return subprocess.run(
                [
                    *(f"{ROOT}/tools/xenvm", *options, f"--timeout={limit}", "--fail-on-warnings"),
                    *(f"--share={folder}", f"--console={RESULTS / name}-replay.console", "--"),
                    *("sh", "-e", "-c", _SCRIPT, "sh", PYTHON, folder, str(sequences)),
                ],
                cwd=ROOT,
                check=False,
            ).returncode
        finally:
            recorder.kill()
            recorder.wait()

"""Run the shell transcripts of the pages again.

Each is a session of one shell, in a folder that contains only .venv. A transcript with a command
that starts with sudo needs a dom0 on a real Xen. A command that ends with & runs in the background
after its first line of output. ``tools/docs --transcripts`` updates them.
"""

import argparse
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

from ..limits import TIMEOUT
from .pages import PAGES, fenced

PROMPT = "$ "
CONSOLE = fenced("console")
_DONE = "\x1e\n"  # marks the end of a command's output; no command prints it
_MARK = "printf '\\036\\n'\n"
# Ends a session that hangs.
_LIMITED = ["timeout", "--kill-after=5", f"{TIMEOUT - 5}"]

# Root needs no sudo. Debian's xl wants tools of the running Xen's version, but others work too.
_START = """\
sudo() { "$@"; }
xl() { "$(printf '%s\\n' /usr/lib/xen-*/bin/xl | tail -1)" "$@"; }
"""
# End the background jobs, as a terminal that is closed does.
_END = "kill $(jobs -p) 2>/dev/null; wait\n"

# What varies from run to run and from machine to machine.
_VARYING = (
    (r"\d{4}-\d\d-\d\dT\S+ \d+ ", "TIME PORT "),  # an event
    (r"\d{4}-\d\d-\d\dT\S+", "TIME"),
    (r"\d+\.\d+\.\d+[-+.\w]*", "VERSION"),
    (r"\d+\.\d+", "NUMBER"),
    (r"\bport \d+", "port PORT"),
    (r"^\w+ +bind_static: .*", "what the kernel knows"),
    (r"^\w+ +ports: .*", "what the domain has"),
)


def needs_xen(transcript: str) -> bool:
    """Return whether a transcript is of a dom0 on a real Xen."""
    return f"{PROMPT}sudo " in transcript


def run(transcript: str) -> str:
    """Run a transcript's commands; return the transcript with their output of now."""
    environment = {name: value for name, value in os.environ.items() if name != "XENEVTCHN_DEVICE"}
    environment["PATH"] = f"{Path(sys.executable).parent}:{environment['PATH']}"
    lines: list[str] = []
    with (
        tempfile.TemporaryDirectory() as directory,
        subprocess.Popen(
            [*_LIMITED, "bash"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            cwd=directory,
            env=environment,
            text=True,
            bufsize=1,
        ) as shell,
    ):
        Path(directory, ".venv").symlink_to(sys.prefix)
        assert shell.stdin
        assert shell.stdout
        shell.stdin.write(_START)
        for line in transcript.splitlines(keepends=True):
            if not line.startswith(PROMPT):
                continue
            lines.append(line)
            shell.stdin.write(line.removeprefix(PROMPT))
            if line.endswith("&\n"):
                lines.append(shell.stdout.readline())
                continue
            shell.stdin.write(_MARK)
            while (output := shell.stdout.readline()) not in {_DONE, ""}:
                lines.append(output)
        shell.stdin.write(_END)
        shell.stdin.close()
        lines += shell.stdout
    return "".join(lines)


def comparable(transcript: str) -> list[str]:
    """Return a transcript's lines of output, without what varies from run to run."""
    lines = [line for line in transcript.splitlines() if not line.startswith(PROMPT)]
    for pattern, name in _VARYING:
        lines = [re.sub(pattern, name, line) for line in lines]
    return [" ".join(line.split()) for line in lines]


def renew(transcript: str, *, real: bool) -> str:
    """Run a transcript again if it is for this machine; return it new if its output changed."""
    if needs_xen(transcript) != real:
        return transcript
    now = run(transcript)
    return transcript if comparable(now) == comparable(transcript) else now


def main() -> None:
    """Update the transcripts: those on the fake, or with --real those on a dom0."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--real", action="store_true", help="those on a dom0, in which to run this")
    real = parser.parse_args().real
    for page in PAGES:
        text = page.read_text()
        new = CONSOLE.sub(lambda match: renew(match[0], real=real), text)
        if new != text:
            page.write_text(new)


if __name__ == "__main__":
    main()

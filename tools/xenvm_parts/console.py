"""The console log of Xen and dom0: its last lines, and the warnings in it."""

import re
from pathlib import Path

# init.sh writes it to the kernel's log.
_COMMAND_STARTS = "xenvm: the command starts"

_WARNING = re.compile(
    r"WARNING: |BUG: |kernel BUG|Oops|Call Trace|general protection|Kernel panic"
    r"|INFO: task .* blocked|rcu.*stall|\(XEN\) .*(?:WARN|BUG|FATAL)"
)


def tail(console: Path, lines: int = 40) -> str:
    """Return the console's last lines."""
    return "\n".join(_lines(console)[-lines:])


def warnings(console: Path, most: int = 20) -> list[str]:
    """Return the first warnings of the kernel or of Xen since the command started."""
    lines = _lines(console)
    starts = (number for number, line in enumerate(lines) if line.endswith(_COMMAND_STARTS))
    return [line for line in lines[next(starts, len(lines)) :] if _WARNING.search(line)][:most]


def _lines(console: Path) -> list[str]:
    """Return the lines that are not empty; none if QEMU never opened the console."""
    text = console.read_text(errors="replace") if console.exists() else ""
    return [line.rstrip() for line in text.splitlines() if line.strip()]

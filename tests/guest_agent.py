"""The only process of a guest: executes commands from dom0, a line of JSON each.

With an argument it only prints the paths of the files that it needs.
"""

import importlib
import json
import subprocess
import sys
from pathlib import Path

from pyxenevtchn import EventChannel, Resumes
from pyxenevtchn.cli.root import COMMANDS

from .raw_driver import RawFiles

# The prefix of an answer; the kernel's lines on the same console start with something else.
ANSWER = "answer: "


_COMMAND = "from pyxenevtchn.cli import main; main()"


def use_up(channel: EventChannel) -> list[int]:
    """Bind ports until that fails; return the highest port and the errno."""
    highest = 0
    while True:
        try:
            highest = max(highest, channel.bind_unbound_port(0))
        except OSError as error:
            return [highest, error.errno or 0]


def main() -> None:
    """Answer each line, ``[METHOD, ARGUMENT...]``, with ``[RESULT, ERRNO]``.

    A method is one of EventChannel's, or one of these:

    - "open": replace the EventChannel by a new one;
    - "use_up": bind all ports that are left;
    - "raw": call a method of RawFiles;
    - "xenevtchn": run the command; the result is its exit status, output and errors;
    - "resumed": wait until the domain was resumed;
    - "echo": return the arguments;
    - "crash": crash the kernel.
    """
    resumes = Resumes()
    channel = EventChannel.open()
    raw = RawFiles()
    for line in sys.stdin:
        method, *arguments = json.loads(line)
        result: object = None
        number = 0
        try:
            if method == "open":
                channel.close()
                channel = EventChannel.open()
            elif method == "use_up":
                result = use_up(channel)
            elif method == "raw":
                result = getattr(raw, arguments[0])(*arguments[1:])
            elif method == "echo":
                result = arguments
            elif method == "resumed":
                result = resumes.wait(*arguments)
            elif method == "crash":
                Path("/proc/sysrq-trigger").write_text("c")
            elif method == "xenevtchn":
                result = _run(arguments)
            else:
                result = getattr(channel, method)(*arguments)
        except OSError as error:
            number = error.errno or 0
        print(ANSWER + json.dumps([result, number]), flush=True)


def _run(arguments: list[str]) -> tuple[int, str, str]:
    ended = subprocess.run(
        [sys.executable, "-c", _COMMAND, *arguments],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    return ended.returncode, ended.stdout, ended.stderr


def _names(library: Path) -> list[str]:
    """Return the paths at which the loader may look for a library: its links, or the file."""
    name = library.name.partition(".so")[0]
    links = [link for link in library.parent.glob(f"{name}.so.*") if link.is_symlink()]
    return [str(link) for link in links if link.samefile(library)] or [str(library)]


def files() -> list[str]:
    """Return the paths of all modules and shared libraries that the agent loads."""
    Resumes().close()
    EventChannel.open().close()
    commands = [f"pyxenevtchn.cli.commands.{command.replace('-', '_')}" for command in COMMANDS]
    for module in ("difflib", *commands):  # click loads difflib when it parses arguments
        importlib.import_module(module)
    modules = [getattr(module, "__file__", None) for module in list(sys.modules.values())]
    mapped = {line.split()[-1] for line in Path("/proc/self/maps").read_text().splitlines()}
    libraries = [name for path in mapped if path.startswith("/") for name in _names(Path(path))]
    return [path for path in (*modules, *libraries) if path]


if __name__ == "__main__":
    if len(sys.argv) > 1:
        print(*files(), sep="\n")
    else:
        main()

"""The one process of another domain: does what dom0 says, a line of JSON each.

Run with an argument, it names the files that it needs, and does nothing else.
"""

import importlib
import json
import subprocess
import sys
from pathlib import Path

from pyxenevtchn import EventChannel, Resumes
from pyxenevtchn.cli.root import COMMANDS

from .raw_driver import RawFiles

# What the kernel prints on the same console starts with something else.
ANSWER = "answer: "


_COMMAND = "from pyxenevtchn.cli import main; main()"


def use_up(channel: EventChannel) -> list[int]:
    """Bind ports until there are no more; return the highest and the errno."""
    highest = 0
    while True:
        try:
            highest = max(highest, channel.bind_unbound_port(0))
        except OSError as error:
            return [highest, error.errno or 0]


def main() -> None:
    """Answer each line, ``[METHOD, ARGUMENT...]``, by ``[RESULT, ERRNO]``.

    The method is one of an EventChannel's; or "open", for a new EventChannel; or "use_up"; or
    "raw", for a method of RawFiles; or "xenevtchn", to run that with the arguments, for its exit
    status and what it writes; or "resumed", to wait until the domain was resumed; or "echo", for
    the arguments; or "crash", for the kernel to crash.
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
    """Return the names by which the loader may look for a library: links to the file, if any."""
    name = library.name.partition(".so")[0]
    links = [link for link in library.parent.glob(f"{name}.so.*") if link.is_symlink()]
    return [str(link) for link in links if link.samefile(library)] or [str(library)]


def files() -> list[str]:
    """Return the paths of the modules that are loaded for all this, and of the libraries."""
    Resumes().close()
    EventChannel.open().close()
    commands = [f"pyxenevtchn.cli.commands.{command.replace('-', '_')}" for command in COMMANDS]
    for module in ("difflib", *commands):  # click loads that when it parses arguments
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

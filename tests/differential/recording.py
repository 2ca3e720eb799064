"""Record the fake's answers to random sequences of calls, for replay.c to make on a real driver.

To make and to compare each call in Python takes a second for a sequence on an emulated processor;
this takes milliseconds. ``python -m tests.differential.recording --help`` shows how it is run.
"""

import argparse
import json
import random
import time
from array import array
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyxenevtchn.fake
from pyxenevtchn import Request

from .machines import Files, Machine, fake_machine, offered_ports, real_machine
from .sequences import OPERATIONS, random_steps
from .worlds import Worlds

# Sequences in a file, and files that wait to be replayed.
SEQUENCES = 500
_MOST_FILES = 4

_OPEN, _DUP, _CLOSE, _IOCTL, _READ, _WRITE, _POLL, _SETTLE, _SEQUENCE = range(9)
_REQUESTS = list(Request)


class Recorder:
    """Open files of a fake, whose calls and answers are recorded (see replay.c for the format).

    Attributes:
        words: the record, in unsigned integers of 32 bits.
    """

    def __init__(self, files: Files) -> None:
        self.words: array[int] = array("I")
        self._files = files
        # By the number in the record, which is small.
        self._fds: dict[int, int] = {}

    def open(self) -> int:
        return self._new(self._files.open(), _OPEN)

    def dup(self, fd: int) -> int:
        return self._new(self._files.dup(self._fds[fd]), _DUP, fd)

    def close(self, fd: int) -> None:
        self._files.close(self._fds.pop(fd))
        self._add(_CLOSE, fd)

    def ioctl(self, fd: int, request: str, *arguments: int) -> int:
        number = _REQUESTS.index(Request(request))
        padded = [*arguments, 0, 0][:2]
        return self._answer(
            lambda: self._files.ioctl(self._fds[fd], request, *arguments),
            *(_IOCTL, fd, number, *padded),
        )

    def read(self, fd: int, size: int) -> list[int]:
        ports: list[int] = []

        def read() -> int:
            ports.extend(self._files.read(self._fds[fd], size))
            return len(ports)

        self._answer(read, _READ, fd, size)
        self.words.extend(ports)
        return ports

    def write(self, fd: int, data: str) -> int:
        contents = bytes.fromhex(data)
        padded = array("I", contents + bytes(-len(contents) % 4))
        return self._answer(
            lambda: self._files.write(self._fds[fd], data),
            *(_WRITE, fd, len(contents), *padded),
        )

    def poll(self, fd: int) -> int:
        events = self._files.poll(self._fds[fd])
        self._add(_POLL, fd, events)
        return events

    def channels(self) -> int:
        return self._files.channels()

    def settle(self) -> None:
        self._add(_SETTLE)

    def begin(self, number: int) -> None:
        """Begin a sequence."""
        self._add(_SEQUENCE, number)

    def _new(self, fd: int, *words: int) -> int:
        number = next(number for number in range(len(self._fds) + 1) if number not in self._fds)
        self._fds[number] = fd
        self._add(*words, number)
        return number

    def _answer(self, call: Callable[[], int], *words: int) -> int:
        """Make a call; record it and its result, or its negated errno."""
        self._add(*words)
        try:
            result = call()
        except OSError as error:
            self._add(-(error.errno or 0) & 0xFFFFFFFF)
            raise
        self._add(result)
        return result

    def _add(self, *words: int) -> None:
        self.words.extend(words)


def recorded(real: dict[str, Any], numbers: range) -> "array[int]":
    """Return the record of sequences; a sequence's number is its seed.

    Args:
        real: the real machine, described by ``this_machine`` there.
        numbers: the sequences.
    """
    machine, recorder = _machine(real)
    for number in numbers:
        recorder.begin(number)
        for _ in _steps(machine, number):
            pass
    return recorder.words


def described(real: dict[str, Any], number: int) -> list[str]:
    """Return the steps of a sequence, a line each."""
    machine, _ = _machine(real)
    return list(_steps(machine, number))


def this_machine() -> dict[str, Any]:
    """Return what the recorder needs to know of this machine."""
    return {"configuration": real_machine(), "offered": sorted(offered_ports())}


def _machine(real: dict[str, Any]) -> tuple[Machine, Recorder]:
    configuration = {
        name: tuple(value) if isinstance(value, list) else value
        for name, value in real["configuration"].items()
    }
    dom0 = fake_machine(configuration).domains[0]
    recorder = Recorder(dom0.files)
    dom0 = replace(dom0, files=recorder, offered=frozenset(real["offered"]))
    return Machine([dom0], configuration), recorder


def _steps(machine: Machine, number: int) -> Iterator[str]:
    chance = random.Random(number)  # noqa: S311 - no secret
    worlds = Worlds(machine, pyxenevtchn.fake)
    for step in random_steps(chance, OPERATIONS, chance.randint(30, 60)):
        yield worlds.step(*step)
    worlds.close()


def record(folder: Path, sequences: int) -> None:
    """Write the files that replay.c reads, while it reads them."""
    real = _description(folder)
    for first in range(0, sequences, SEQUENCES):
        numbers = range(first, min(first + SEQUENCES, sequences))
        unfinished = folder / "unfinished"
        unfinished.write_bytes(recorded(real, numbers).tobytes())
        while len(list(folder.glob("record-*"))) >= _MOST_FILES:
            time.sleep(0.1)
        unfinished.rename(folder / f"record-{first // SEQUENCES}")


def _description(folder: Path) -> dict[str, Any]:
    """Wait for the description of the real machine."""
    file = folder / "machine.json"
    while not file.exists():
        time.sleep(0.1)
    real: dict[str, Any] = json.loads(file.read_text())
    return real


def main() -> None:
    """Record for replay.c, or show a sequence."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("folder", type=Path, nargs="?", help="that of machine.json")
    parser.add_argument("--describe", action="store_true", help="print machine.json, on a dom0")
    parser.add_argument("--sequences", type=int, default=10_000, help="how many (default: 10000)")
    parser.add_argument("--show", type=int, metavar="NUMBER", help="show a sequence's steps")
    options = parser.parse_args()
    if options.describe:
        print(json.dumps(this_machine()))
    elif options.show is not None:
        print(*described(_description(options.folder), options.show), sep="\n")
    else:
        record(options.folder, options.sequences)


if __name__ == "__main__":
    main()

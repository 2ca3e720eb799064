"""The machine that the fake is compared with: a real one, or another fake.

With another fake, only the errors that were made on purpose are found: the comparison works.
"""

import contextlib
import itertools
import os
import platform
import select
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any, Protocol, cast

from pyxenevtchn.abi import unpack_ports
from pyxenevtchn.fake import Domain, Hypervisor
from pyxenevtchn.fake.descriptor import PollDescriptor
from pyxenevtchn.fake.model.configuration import Abi
from pyxenevtchn.fake.model.driver import OpenFile
from pyxenevtchn.ports import State
from pyxenevtchn.privcmd import port_table

from ..here import has_fifo, has_silo, machine
from ..raw_driver import RawFiles
from ..real_guest import RealGuest

# Free in any domain with few ports: the only number that a file may bind by BIND_STATIC.
FREE_PORT = 4000

_VERSION = Path("/sys/hypervisor/version")


class Files(Protocol):
    """The open files of a domain (see RawFiles)."""

    def open(self) -> int: ...
    def dup(self, fd: int) -> int: ...
    def close(self, fd: int) -> None: ...
    def ioctl(self, fd: int, request: str, *arguments: int) -> int: ...
    def read(self, fd: int, size: int) -> list[int]: ...
    def write(self, fd: int, data: str) -> int: ...
    def poll(self, fd: int) -> int: ...
    def channels(self) -> int: ...
    def settle(self) -> None: ...


class Pausable(Protocol):
    """A guest that can be paused."""

    def pause(self) -> None: ...
    def unpause(self) -> None: ...


class GuestFiles:
    """The open files of the agent in a real guest."""

    def __init__(self, guest: RealGuest) -> None:
        self._guest = guest

    def __getattr__(self, method: str) -> object:
        return lambda *arguments: self._guest.call("raw", method, *arguments)


@dataclass(frozen=True)
class Reference:
    """A domain to compare with.

    Attributes:
        domid: its number.
        files: its open files.
        channels: how many channels its kernel has room for.
        free_ports: how many more ports it can have; None for no limit.
        guest: how to pause it; None for dom0.
        offered: its kernel's unbound ports, such as the one for xenstored when that does not run.
            A fake's kernel has none.
    """

    domid: int
    files: Files
    channels: int
    free_ports: int | None = None
    guest: Pausable | None = None
    offered: frozenset[int] = frozenset()


@dataclass(frozen=True)
class Machine:
    """A machine to compare with.

    Attributes:
        domains: its domains, dom0 first.
        configuration: the arguments of a Hypervisor that is like it.
    """

    domains: Sequence[Reference]
    configuration: dict[str, Any]

    @property
    def abi(self) -> Abi:
        """The ABI of its kernels."""
        abi: Abi = self.configuration["abi"]
        return abi

    def fake(self, package: ModuleType) -> Hypervisor:
        """Make a fake like it, from a package such as pyxenevtchn.fake."""
        made: Hypervisor = package.Hypervisor(**self.configuration)
        return made


def real_machine() -> dict[str, Any]:
    """Return the arguments of a Hypervisor that is like this machine."""
    return {
        "xen_version": tuple(int((_VERSION / part).read_text()) for part in ("major", "minor")),
        "linux": tuple(int(part) for part in platform.release().split("-")[0].split(".")[:2]),
        "machine": machine(),
        "abi": "fifo" if has_fifo() else "2l",
        "xsm": "silo" if has_silo() else "dummy",
    }


def real_dom0() -> Reference:
    """Return dom0, in which this runs."""
    offered = offered_ports()
    files = RawFiles()
    return Reference(0, files, _prepare(files), offered=offered)


def offered_ports() -> frozenset[int]:
    """Return the unbound ports of this domain."""
    return frozenset(port.port for port in port_table() if port.state == State.UNBOUND)


def real_guest(guest: RealGuest) -> Reference:
    """Return a guest whose limit of ports is low enough to be reached."""
    files = cast("Files", GuestFiles(guest))
    return Reference(guest.domid, files, _prepare(files), _use_up(files), guest)


def _prepare(files: Files) -> int:
    """Show a kernel the highest port of the test; return how many channels it has room for then."""
    files.settle()
    fd = files.open()
    with contextlib.suppress(OSError):  # Linux has BIND_STATIC since 6.6
        files.ioctl(fd, "bind_static", FREE_PORT)
    files.close(fd)
    return files.channels()


def _use_up(files: Files) -> int:
    """Bind ports until that fails, and unbind them; return how many there were."""
    fd = files.open()
    ports = 0
    try:
        while True:
            files.ioctl(fd, "bind_unbound_port", 0)
            ports += 1
    except OSError:
        files.close(fd)
    return ports


class FakeFiles:
    """The open files of a fake's domain."""

    def __init__(self, domain: Domain) -> None:
        self._domain = domain
        self._numbers = itertools.count()
        self._opened: dict[int, tuple[PollDescriptor, OpenFile]] = {}

    def open(self) -> int:
        descriptor = PollDescriptor(os.getpid())
        return self._number((descriptor, self._domain.open_file(descriptor.show)))

    def dup(self, fd: int) -> int:
        return self._number(self._opened[fd])

    def close(self, fd: int) -> None:
        opened = self._opened.pop(fd)
        if opened not in self._opened.values():
            descriptor, model = opened
            model.release()
            descriptor.close()

    def ioctl(self, fd: int, request: str, *arguments: int) -> int:
        model: Any = self._opened[fd][1]
        result: int = model.ioctl(request, *arguments)
        return result

    def read(self, fd: int, size: int) -> list[int]:
        return unpack_ports(self._opened[fd][1].read(size))

    def write(self, fd: int, data: str) -> int:
        return self._opened[fd][1].write(bytes.fromhex(data))

    def poll(self, fd: int) -> int:
        poller = select.poll()
        number = self._opened[fd][0].fileno()
        poller.register(number, select.POLLIN)
        return dict(poller.poll(0)).get(number, 0)

    def channels(self) -> int:
        return self._domain._kernel.nr_channels  # noqa: SLF001

    def settle(self) -> None:
        """Do nothing: events arrive at once."""

    def _number(self, opened: tuple[PollDescriptor, OpenFile]) -> int:
        number = next(self._numbers)
        self._opened[number] = opened
        return number


def fake_machine(configuration: dict[str, Any], guest_ports: int | None = None) -> Machine:
    """Make a fake machine with dom0, and with a guest if its limit of ports is given."""
    xen = Hypervisor(**configuration)
    dom0_files = FakeFiles(xen.dom0)
    domains = [Reference(0, dom0_files, _prepare(dom0_files))]
    if guest_ports is not None:
        guest = xen.create_domain(7, guest_ports)
        files = FakeFiles(guest)
        domains.append(Reference(7, files, _prepare(files), _use_up(files), guest))
    return Machine(domains, configuration)

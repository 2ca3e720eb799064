"""Pytest fixtures to test your own code on the fake.

pytest finds them if pyxenevtchn is installed; a fixture does nothing unless a test requests it.
At its end, each checks that the test left no handle open and no port bound.
"""

import os
from collections.abc import Iterator
from dataclasses import dataclass
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from .channel import EventChannel
    from .fake import Hypervisor
    from .fake.server.remote import RemoteHypervisor

__all__ = [
    "ConnectedDomains",
    "ProgramEnvironment",
    "xenevtchn_dom0",
    "xenevtchn_domains",
    "xenevtchn_environment",
    "xenevtchn_hypervisor",
]


@dataclass(frozen=True)
class ConnectedDomains:
    """A backend in dom0 and a frontend in a domU, one channel between them, nothing pending.

    Attributes:
        backend: a handle in dom0.
        backend_port: its end of the channel, which it allocated for the frontend's domain.
        frontend: a handle in the domU.
        frontend_port: its end of the channel.
    """

    backend: "EventChannel"
    backend_port: int
    frontend: "EventChannel"
    frontend_port: int


class ProgramEnvironment(dict[str, str]):
    """The environment of a program that finds a fake at /dev/xen/evtchn, in dom0.

    The program may be in any language; it must be dynamically linked.

    Attributes:
        hypervisor: the fake's hypervisor, to raise VIRQs, destroy domains and the like.
    """

    hypervisor: "RemoteHypervisor"

    def __init__(self, path: str, domid: int = 0) -> None:
        from .fake.preload import environment  # noqa: PLC0415 - loaded in every run of its users
        from .fake.server.remote import RemoteHypervisor  # noqa: PLC0415
        from .opening import DEVICE_VARIABLE  # noqa: PLC0415

        base = {name: value for name, value in os.environ.items() if name != DEVICE_VARIABLE}
        super().__init__(environment(base, path, domid))
        self.hypervisor = RemoteHypervisor(path)
        self._path = path

    def domain(self, domid: int) -> "ProgramEnvironment":
        """Return the same for a program in another domain; an open there creates the domain."""
        return ProgramEnvironment(self._path, domid)

    def device(self, domid: int = 0) -> str:
        """Return the device name for handles in a domain: ``fake:unix:PATH?domid=N``."""
        from .fake.names import server_name  # noqa: PLC0415

        return server_name(self._path, domid)


@pytest.fixture
def xenevtchn_environment() -> Iterator[ProgramEnvironment]:
    """An environment for ``subprocess``: programs find a fake Xen that belongs to the test."""
    from .fake.server.server import serving  # noqa: PLC0415

    bugs: list[str] = []
    with (
        TemporaryDirectory(prefix="xenevtchn-") as folder,
        serving(f"{folder}/socket", bugs.append),
    ):
        environment = ProgramEnvironment(f"{folder}/socket")
        yield environment
        if bugs:
            pytest.fail(f"kernel bug: {'; '.join(bugs)}")
        environment.hypervisor.check_clean()


@pytest.fixture
def xenevtchn_hypervisor() -> Iterator["Hypervisor"]:
    """A fake Xen with a dom0: Linux on Xen 4.17, FIFO event channels, immediate delivery."""
    from .fake import Hypervisor  # noqa: PLC0415 - loaded in every test run of its users

    hypervisor = Hypervisor()
    yield hypervisor
    hypervisor.check_clean()


@pytest.fixture
def xenevtchn_dom0(xenevtchn_hypervisor: "Hypervisor") -> Iterator["EventChannel"]:
    """An open handle in the dom0 of ``xenevtchn_hypervisor``, closed at the end."""
    with xenevtchn_hypervisor.dom0.open() as channel:
        yield channel


@pytest.fixture
def xenevtchn_domains(xenevtchn_hypervisor: "Hypervisor") -> Iterator[ConnectedDomains]:
    """Two domains of ``xenevtchn_hypervisor``, connected; their handles are closed at the end."""
    domain = xenevtchn_hypervisor.create_domain()
    with xenevtchn_hypervisor.dom0.open() as backend, domain.open() as frontend:
        backend_port = backend.bind_unbound_port(domain.domid)
        frontend_port = frontend.bind_interdomain(0, backend_port)
        # The port that connects starts with one event that nobody sent.
        frontend.unmask(frontend.wait(0))
        yield ConnectedDomains(backend, backend_port, frontend, frontend_port)

"""Domain: one of a fake's domains, controlled by tests."""

import contextlib
import os
import weakref
from collections.abc import Callable, Iterator
from typing import Literal

from ..abi import Request
from ..channel import EventChannel
from ..descriptors import Descriptor
from ..resumes import Resumes
from .descriptor import PollDescriptor
from .device import Description, FakeDevice
from .lock import Lock
from .model.driver import OpenFile
from .model.life import Lifecycle
from .model.linux import Kernel

OPERATIONS = (*Request, "read", "write")
"""The operations that ``fail_next`` takes."""


class Domains:
    """The domains of a hypervisor, and their kernels.

    Attributes:
        lock: held during every access to the models.
        kernels: the kernel of each domain, without those that ended or are saved.
        saved: the saved domains, by the domid that they had.
        former: the restored domains, by each domid that they had before.
    """

    def __init__(self) -> None:
        # Reentrant, for signal handlers.
        self.lock: Lock = Lock()
        self.kernels: dict[Domain, Kernel] = {}
        self.saved: dict[int, Domain] = {}
        self.former: dict[int, Domain] = {}

    def domids(self) -> list[int]:
        """List the domids, in the order of the domains."""
        return [domain.domid for domain in self.kernels]

    def find(self, domid: int) -> "Domain":
        """Return the domain with this domid.

        Raises:
            LookupError: there is none.
        """
        for domain in self.kernels:
            if domain.domid == domid:
                return domain
        there = ", ".join(map(str, self.domids()))
        raise LookupError(f"there is no domain {domid}: the domids are {there}")

    def kernel_of(self, domain: "Domain") -> Kernel:
        """Return a domain's kernel.

        Raises:
            ValueError: the domain has ended, is saved, or is another hypervisor's.
        """
        if domain not in self.kernels:
            raise ValueError(f"{domain!r} is not, or no longer, a domain of this hypervisor")
        return self.kernels[domain]


class Domain:
    """A domain of a Hypervisor, running Linux. Any thread may call any method at any time."""

    def __init__(self, kernel: Kernel, domains: Domains, lifecycle: Lifecycle) -> None:
        self._kernel = kernel
        self._lock = domains.lock
        self._domains = domains
        self._lifecycle = lifecycle
        # Each lives as long as its Resumes object.
        self._clocks: weakref.WeakSet[Descriptor] = weakref.WeakSet()
        domains.kernels[self] = kernel

    @property
    def domid(self) -> int:
        """The domain's number."""
        return self._kernel.domain.domid

    def __repr__(self) -> str:
        state = "saved" if self._kernel.saved else self._kernel.gone
        return f"<Domain {self.domid}{f' {state}' if state else ''}>"

    def open(self, *, nonblocking: bool = True) -> EventChannel:
        """Open a handle, as a process in this domain would.

        Raises:
            OSError: EMFILE; ENODEV, the domain was destroyed.
        """
        return EventChannel(self.device(nonblocking=nonblocking))

    def device(self, *, nonblocking: bool = True, cloexec: bool = True) -> FakeDevice:
        """Open only the device: the driver's file operations, without an EventChannel.

        Raises:
            OSError: EMFILE; ENODEV, the domain was destroyed.
        """
        with self._lock:
            return FakeDevice.open(
                self._open_description(), self._name, nonblocking=nonblocking, cloexec=cloexec
            )

    def open_file(self, on_poll: Callable[[int], None]) -> OpenFile:
        """Open a file of the driver without a descriptor, for a server.

        Args:
            on_poll: called when the result of poll changes (see driver.OpenFile).

        Raises:
            OSError: ENODEV, the domain was destroyed.
        """
        with self._lock:
            try:
                self._kernel.check("open")
            except OSError as error:
                error.filename = self._name
                raise
            return OpenFile(self._kernel, on_poll)

    def resumes(self) -> Resumes:
        """Hear of this domain's resumes, as a process in it would: ``restore`` and ``checkpoint``.

        For this process only: the clients of a server hear the clock of their own machine.

        Raises:
            OSError: EMFILE.
        """
        clock = Descriptor.eventfd()
        with self._lock:
            self._clocks.add(clock)
        return Resumes(clock)

    def _open_description(self) -> Description:
        with self._lock:
            descriptor = PollDescriptor(os.getpid())
            try:
                file = self.open_file(descriptor.show)
            except BaseException:
                descriptor.close()
                raise
            return Description(
                file, descriptor, self._lock.inner, self._kernel, self._open_description
            )

    @property
    def _name(self) -> str:
        return f"fake:?domid={self.domid}" if self.domid else "fake:"

    def fail_next(self, request: Request | Literal["read", "write"], errno: int) -> None:
        """Make the next such call of a handle in this domain fail without effect.

        Called again for the same request, it makes the call after that fail too.

        Args:
            request: which request, or "read" or "write".
            errno: what it fails with.

        Raises:
            ValueError: there is no such request.
        """
        if request not in OPERATIONS:
            raise ValueError(f"request must be one of {', '.join(OPERATIONS)}, not {request!r}")
        with self._lock:
            self._kernel.fail_next(request, errno)

    def pause(self) -> None:
        """Stop the domain's vCPUs, as ``xl pause`` does.

        Events that are sent to it wait for ``unpause``. A real domain's processes stop too; here
        calls of its handles still work, but find no new events.

        Raises:
            ValueError: it is dom0, or does not run.
        """
        with self._running("paused"):
            self._kernel.pause()

    def unpause(self) -> None:
        """Let the domain's vCPUs run again: waiting events arrive, in the ABI's order.

        Raises:
            ValueError: it is dom0, or does not run.
        """
        with self._running("unpaused"):
            self._kernel.unpause()

    def checkpoint(self) -> None:
        """Save the domain and let it continue, as ``xl save -c`` does: everything survives.

        dom0 gets one VIRQ_DOM_EXC.

        Raises:
            ValueError: it is dom0, or does not run.
        """
        with self._running("checkpointed"):
            self._lifecycle.checkpoint()
            self._set_clocks()

    def save(self) -> None:
        """Save the domain to a file, as ``xl save`` does; ``restore`` brings it back.

        Its ends of channels are closed, as with ``destroy``, and dom0 gets VIRQ_DOM_EXC three
        times, as with ``shutdown``. Until ``restore``, calls of its handles raise ValueError.

        Raises:
            ValueError: it is dom0, or does not run.
        """
        with self._running("saved"):
            del self._domains.kernels[self]
            self._domains.saved[self.domid] = self
            self._lifecycle.save(self._kernel)

    def restore(self) -> None:
        """Restore the saved domain, as ``xl restore`` does: with a new domid.

        Its handles keep the events in their rings, and still list their ports. But the ports are
        gone: no event arrives, and ``notify`` does nothing. A real kernel crashes when one of them
        is unbound, by ``unbind``, by ``close`` or by the end of the process; here that raises
        KernelBug. If the number has been allocated again, its new owner loses it instead. New
        handles work.

        Raises:
            ValueError: it is not saved.
        """
        with self._lock:
            if not self._kernel.saved:
                raise ValueError(f"{self!r} was not saved")
            del self._domains.saved[self.domid]
            self._domains.former[self.domid] = self
            self._lifecycle.restore(self._kernel)
            self._domains.kernels[self] = self._kernel
            self._set_clocks()

    def shutdown(self) -> None:
        """Let the domain shut itself down; the toolstack destroys the rest.

        dom0 gets VIRQ_DOM_EXC three times: once for the shutdown, and twice as with ``destroy``.
        Those that come before the port is unmasked merge, so with "immediate" delivery dom0 reads
        two events; with "manual" each of the last two comes with a ``deliver``.

        Raises:
            ValueError: it is dom0, or does not run.
        """
        self._end("shut down")

    def crash(self, *, preserve: bool = False) -> None:
        """Let the domain's kernel crash.

        Args:
            preserve: the toolstack keeps the domain (on_crash=preserve): dom0 gets one
                VIRQ_DOM_EXC. Until ``destroy`` the ports stay and others can even connect to them,
                but nobody answers. Else it is as with ``shutdown``.

        Raises:
            ValueError: it is dom0, or does not run.
        """
        if not preserve:
            self._end("crashed")
            return
        with self._running("crashed"):
            self._lifecycle.crash_and_stay(self._kernel)

    def destroy(self) -> None:
        """Destroy the domain, its processes included.

        Its ports are closed: the other ends become unbound and get no event. dom0 gets
        VIRQ_DOM_EXC twice: when the domain is dead, and when its domid is free (Xen). With "manual"
        delivery the second comes with the ``deliver`` after the first; meanwhile the domain is
        dying: to connect to it fails with EINVAL, and after that with ESRCH.

        A real domain's processes end with it; here its handles stay, poll as POLLERR, and fail
        every call but close with ENODEV.

        Raises:
            ValueError: it is dom0, or was destroyed already.
        """
        with self._lock:
            self._domains.kernel_of(self)
            if self.domid == 0:
                raise ValueError("dom0 cannot be destroyed")
            del self._domains.kernels[self]
            self._lifecycle.destroy(self._kernel)

    def _set_clocks(self) -> None:
        """Wake the listeners to the domain's clock, which is set at a resume."""
        for clock in list(self._clocks):
            os.eventfd_write(clock.number, 1)

    def _end(self, how: str) -> None:
        with self._running(how):
            del self._domains.kernels[self]
            self._lifecycle.shut_down(self._kernel, how)

    @contextlib.contextmanager
    def _running(self, what: str) -> Iterator[None]:
        """Hold the lock, and check that this is a guest that runs."""
        with self._lock:
            if self.domid == 0:
                raise ValueError(f"dom0 cannot be {what}")
            if not self._kernel.alive or self._kernel.saved:
                raise ValueError(f"{self!r} does not run")
            yield

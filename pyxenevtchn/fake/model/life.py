"""How domains end, and are saved and restored: what Xen, the toolstack and the kernel do then.

Pure: no descriptor, no thread, no I/O. The order, and the number of VIRQ_DOM_EXC in dom0, are those
of real machines (Xen 4.17).
"""

from collections.abc import Callable

from .linux import Kernel
from .toolstack import Toolstack
from .xen import Xen, XenDomain


class Lifecycle:
    """Ends, saves and restores domains.

    Args:
        xen: the hypervisor.
        toolstack: dom0's.
        at_once: whether the steps of an end follow at once; else each ``next_step`` takes one.
    """

    def __init__(self, xen: Xen, toolstack: Toolstack, *, at_once: bool) -> None:
        self._xen = xen
        self._toolstack = toolstack
        self._at_once = at_once
        self._ends: list[list[Callable[[], None]]] = []

    def next_step(self) -> None:
        """Take the next step of every end that is under way."""
        ends, self._ends = self._ends, []
        for steps in ends:
            steps.pop(0)()
            if steps:
                self._ends.append(steps)

    def destroy(self, kernel: Kernel) -> None:
        """Destroy a domain: kill it, and then free its domid."""
        if kernel.alive:
            kernel.end("destroyed")
        self._kill(kernel.domain)
        self._later(lambda: self._xen.free(kernel.domain))

    def shut_down(self, kernel: Kernel, why: str) -> None:
        """End a domain that shut down or crashed by itself; the toolstack destroys the rest."""
        domain = kernel.domain
        kernel.end(why)
        self._xen.shut_down()
        self._later(lambda: self._kill(domain), lambda: self._xen.free(domain))

    def crash_and_stay(self, kernel: Kernel) -> None:
        """Crash a domain that the toolstack preserves: its ports stay."""
        kernel.end("crashed")
        self._xen.shut_down()

    def checkpoint(self) -> None:
        """Suspend a domain, and let it continue unchanged."""
        self._xen.shut_down()

    def save(self, kernel: Kernel) -> None:
        """Suspend a domain and destroy it in Xen; its kernel and processes are then in a file."""
        domain = kernel.domain
        kernel.suspend()
        self._xen.shut_down()
        self._later(lambda: self._kill(domain), lambda: self._xen.free(domain))

    def restore(self, kernel: Kernel) -> None:
        """Create a saved domain again in Xen, with the next domid; its kernel resumes there."""
        domain = self._xen.create(max_port=kernel.domain.max_port)
        kernel.resume(domain)
        self._toolstack.introduce(domain)

    def _kill(self, domain: XenDomain) -> None:
        self._xen.kill(domain)
        self._toolstack.release(domain)

    def _later(self, *steps: Callable[[], None]) -> None:
        if self._at_once:
            for step in steps:
                step()
        else:
            self._ends.append(list(steps))

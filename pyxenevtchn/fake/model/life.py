"""How domains end, and are saved and restored: what Xen, the toolstack and the kernel do then.

Pure: no descriptor, no thread, no I/O. The order, and how often dom0 hears of it by VIRQ_DOM_EXC,
are those of real machines (Xen 4.17).
"""

from collections.abc import Callable

from .linux import Kernel
from .toolstack import Toolstack
from .xen import Xen, XenDomain


class Lives:
    """The domains that end, or are saved.

    Args:
        xen: the hypervisor.
        toolstack: dom0's.
        at_once: whether an end has no time between its steps; else each ``go_on`` is one.
    """

    def __init__(self, xen: Xen, toolstack: Toolstack, *, at_once: bool) -> None:
        self._xen = xen
        self._toolstack = toolstack
        self._at_once = at_once
        self._ends: list[list[Callable[[], None]]] = []

    def go_on(self) -> None:
        """Take the next step of every end that is under way."""
        ends, self._ends = self._ends, []
        for steps in ends:
            steps.pop(0)()
            if steps:
                self._ends.append(steps)

    def destroy(self, kernel: Kernel) -> None:
        """Destroy a domain: it is dead, and then its domid is free."""
        if kernel.alive:
            kernel.end("destroyed")
        self._kill(kernel.domain)
        self._later(lambda: self._xen.free(kernel.domain))

    def shut_down(self, kernel: Kernel, why: str) -> None:
        """End a domain by itself; the toolstack destroys what is left."""
        domain = kernel.domain
        kernel.end(why)
        self._xen.shut_down()
        self._later(lambda: self._kill(domain), lambda: self._xen.free(domain))

    def crash_and_stay(self, kernel: Kernel) -> None:
        """Crash a domain that the toolstack leaves as it is: its ports stay."""
        kernel.end("crashed")
        self._xen.shut_down()

    def checkpoint(self) -> None:
        """Suspend a domain, and let it go on as if nothing had been."""
        self._xen.shut_down()

    def save(self, kernel: Kernel) -> None:
        """Suspend a domain and destroy it in Xen; its kernel and processes are in a file now."""
        domain = kernel.domain
        kernel.suspend()
        self._xen.shut_down()
        self._later(lambda: self._kill(domain), lambda: self._xen.free(domain))

    def restore(self, kernel: Kernel) -> None:
        """Make a saved domain anew in Xen, with the next domid, and let its kernel resume there."""
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

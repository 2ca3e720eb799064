"""Copies of the fake, each with one small error in its models."""

import importlib
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from types import ModuleType

import pyxenevtchn

PACKAGE = Path(pyxenevtchn.__file__).parent


@dataclass(frozen=True)
class Mutant:
    """A small error.

    Attributes:
        module: a module of the fake's models.
        right: a line or lines of that module.
        wrong: what replaces them.
        guest: whether the error shows only with a second domain.
    """

    module: str
    right: str
    wrong: str
    guest: bool = False

    def __str__(self) -> str:
        return f"{self.module}: {' '.join(self.wrong.split())}"


MUTANTS = (
    # Errnos.
    Mutant(
        "driver",
        "        if port not in self.ports:\n            fail(errno.ENOTCONN)\n        try:",
        "        if port not in self.ports:\n            fail(errno.EINVAL)\n        try:",
    ),
    Mutant(
        "xen",
        "        if remote is None:\n            fail(errno.ESRCH)",
        "        if remote is None:\n            fail(errno.EINVAL)",
    ),
    Mutant(
        "xen",
        "        if virq in self._virqs:\n            fail(errno.EEXIST)",
        "        if virq in self._virqs:\n            fail(errno.EBUSY)",
    ),
    # The order of checks.
    Mutant(
        "driver",
        "        if port >= self._kernel.nr_channels:\n            fail(errno.EINVAL)\n"
        "        if port not in self.ports:\n            fail(errno.ENOTCONN)\n",
        "        if port not in self.ports:\n            fail(errno.ENOTCONN)\n"
        "        if port >= self._kernel.nr_channels:\n            fail(errno.EINVAL)\n",
    ),
    Mutant(
        "driver",
        "        self._refuse_if_restricted()\n        if not 0 < domid",
        "        if not 0 < domid < DOMID_FIRST_RESERVED:\n            fail(errno.EINVAL)\n"
        "        self._refuse_if_restricted()\n        if not 0 < domid",
    ),
    Mutant(
        "driver",
        "        if size < PORT_BYTES:\n",
        "        if size < PORT_BYTES and not self._overflow:\n",
    ),
    Mutant(
        "driver",
        "        if self._restrict_domid not in {None, remote_domain}:\n",
        "        if self._restrict_domid not in {None, remote_domain & DOMID_MAX}:\n",
    ),
    # The ring.
    Mutant(
        "driver", "if len(self._ring) < self.ring_size:", "if len(self._ring) <= self.ring_size:"
    ),
    Mutant("driver", "if self._nr_ports > self.ring_size:", "if self._nr_ports >= self.ring_size:"),
    Mutant("driver", "[ring.popleft() for _", "[ring.pop() for _"),
    Mutant(
        "driver",
        "        self._ring.clear()\n        self._overflow = False\n",
        "        self._ring.clear()\n",
    ),
    Mutant(
        "driver",
        "        self._kernel.unbind(port)\n",
        "        self._kernel.unbind(port)\n        while port in self._ring:\n"
        "            self._ring.remove(port)\n",
    ),
    Mutant(
        "driver",
        "        if not ring:\n            self._show_empty()\n        return",
        "        return",
    ),
    Mutant(
        "driver",
        "            self._overflow = True\n            self.on_poll(select.POLLERR)\n",
        "            self._overflow = True\n",
    ),
    # Events.
    Mutant(
        "linux",
        "        evtchn.masked = True\n        evtchn.interrupts += 1\n",
        "        evtchn.interrupts += 1\n",
    ),
    Mutant(
        "xen",
        "sends one to the new end.\n    _set_pending(evtchn)\n",
        "sends one to the new end.\n",
    ),
    Mutant(
        "xen",
        "    if not evtchn.pending:\n        evtchn.pending = True\n",
        "    if not evtchn.pending and not evtchn.masked:\n        evtchn.pending = True\n",
    ),
    Mutant("event_queues", "popitem(last=False)", "popitem(last=True)", guest=True),
    # Ports and domains.
    Mutant("free_ports", "return heapq.heappop(self._freed)", "return self._freed.pop()"),
    Mutant(
        "free_ports",
        "        if number > self._highest:\n            fail(errno.ENOSPC)\n        return",
        "        if number >= self._highest:\n            fail(errno.ENOSPC)\n        return",
        guest=True,
    ),
    Mutant(
        "xen",
        "peer.state != State.UNBOUND or peer.remote_domid != self.domid:",
        "peer.state != State.UNBOUND:",
    ),
    Mutant(
        "xen",
        "            evtchn.peer.peer = None\n",
        "            evtchn.peer.peer = None\n"
        "            evtchn.peer.remote_domid = evtchn.peer.domain.domid\n",
        guest=True,
    ),
    Mutant("driver", "alloc_unbound(remote_domain & DOMID_MAX)", "alloc_unbound(remote_domain)"),
)


@contextmanager
def mutated(mutant: Mutant, number: int) -> Iterator[ModuleType]:
    """Import the fake from a copy of the package that has this error."""
    name = f"mutant_{number}"
    with TemporaryDirectory() as directory:
        copy = Path(directory, name)
        shutil.copytree(PACKAGE, copy, ignore=shutil.ignore_patterns("__pycache__"))
        source = copy / "fake/model" / f"{mutant.module}.py"
        text = source.read_text()
        assert text.count(mutant.right) == 1, f"{mutant.module} must have {mutant.right!r} once"
        source.write_text(text.replace(mutant.right, mutant.wrong))
        sys.path.insert(0, directory)
        try:
            yield importlib.import_module(f"{name}.fake")
        finally:
            sys.path.remove(directory)
            for module in [each for each in sys.modules if each.partition(".")[0] == name]:
                del sys.modules[module]

"""The configuration of a fake machine: its hypervisor, its kernels, and how events arrive."""

from dataclasses import dataclass
from typing import Literal

from ...abi import Machine
from .xen import MAX_CHANNELS
from .xsm import MODULES, Xsm

Abi = Literal["fifo", "2l"]
Delivery = Literal["immediate", "manual", "shuffled"]
Policy = Literal["dummy", "silo"]

ABIS: tuple[Abi, ...] = ("fifo", "2l")
DELIVERIES: tuple[Delivery, ...] = ("immediate", "manual", "shuffled")
MACHINES: tuple[Machine, ...] = ("pv", "pvh", "arm64")
POLICIES: tuple[Policy, ...] = ("dummy", "silo")

_OLDEST_LINUX = (5, 11)


@dataclass(frozen=True, slots=True)
class Configuration:
    """The arguments of Hypervisor, which its docstring explains.

    Raises:
        ValueError: an argument has an unknown value.
    """

    xen_version: tuple[int, int] = (4, 17)
    linux: tuple[int, int] = (6, 1)
    machine: Machine = "pv"
    abi: Abi = "fifo"
    delivery: Delivery = "immediate"
    xsm: Policy | Xsm = "dummy"
    seed: int | None = None

    def __post_init__(self) -> None:
        if tuple(self.linux) < _OLDEST_LINUX:
            raise ValueError(f"linux must be 5.11 or newer, not {'.'.join(map(str, self.linux))}")
        for name, known in (("machine", MACHINES), ("abi", ABIS), ("delivery", DELIVERIES)):
            value = getattr(self, name)
            if value not in known:
                raise ValueError(f"{name} must be {_one_of(known)}, not {value!r}")
        if not isinstance(self.xsm, Xsm) and self.xsm not in POLICIES:
            raise ValueError(f"xsm must be {_one_of(POLICIES)} or an Xsm, not {self.xsm!r}")

    @property
    def max_channels(self) -> int:
        """The number of ports of a domain, port 0 included."""
        return MAX_CHANNELS[self.abi]

    def policy(self) -> Xsm:
        """Return the policy: which domains may connect to each other."""
        return self.xsm if isinstance(self.xsm, Xsm) else MODULES[self.xsm]()


def _one_of(words: tuple[str, ...]) -> str:
    return f"{', '.join(words[:-1])} or {words[-1]}"

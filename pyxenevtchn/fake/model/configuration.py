"""What a fake machine is: its hypervisor, its kernels, and how events come."""

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
    """What a Hypervisor is made of; its arguments, which it explains.

    Raises:
        ValueError: there is no such thing.
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
        """How many ports a domain can have, port 0 among them."""
        return MAX_CHANNELS[self.abi]

    def policy(self) -> Xsm:
        """Return which domains may connect with each other."""
        return self.xsm if isinstance(self.xsm, Xsm) else MODULES[self.xsm]()


def _one_of(words: tuple[str, ...]) -> str:
    return f"{', '.join(words[:-1])} or {words[-1]}"

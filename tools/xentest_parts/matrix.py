"""The machines in which the tests run, and the tests of each."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Machine:
    """A named machine.

    Attributes:
        about: its purpose, in one line.
        kind: the options of tools/xenvm, except the number of vCPUs.
        tests: the arguments of pytest.
        gate: those in the gate; empty if the gate does not use the machine.
        vcpus: how many vCPUs its domain has, and so about how many processors it uses.
    """

    about: str
    kind: tuple[str, ...]
    tests: tuple[str, ...]
    gate: tuple[str, ...] = ()
    vcpus: int = 1

    @property
    def options(self) -> tuple[str, ...]:
        """All options of tools/xenvm."""
        return (*self.kind, f"--vcpus={self.vcpus}")

    @property
    def is_x86_dom0(self) -> bool:
        """Whether the tests run in a dom0 on this machine's architecture."""
        return not any(option.startswith(("--guest=", "--arch=")) for option in self.kind)


# Tests that end guests take minutes: they have two machines of their own.
_LIFE = ("tests/contract/test_guest_life.py", "tests/examples/test_console_backend.py")
_CONTRACT = ("tests/contract", *(f"--deselect={file}" for file in _LIFE))

# The part of the contract that depends on the driver and on Xen, and differs between domains.
_DRIVER = tuple(
    f"tests/contract/test_{name}.py"
    for name in ("bind", "events", "kernel", "notify", "poll", "restrict", "ring", "static")
)

# The fake against the device, in one domain and in two.
_DIFFERENTIAL = "tests/differential/test_differential.py::"
_FAKE = (f"{_DIFFERENTIAL}test_the_fake_answers_as_the_driver_does",)
_FAKES_TWO = f"{_DIFFERENTIAL}test_two_domains_of_the_fake_answer_as_real_ones_do"

_WITH_GUESTS = ("tests/contract/test_domains.py", "tests/cli/test_guest.py", _FAKES_TWO)

_DOM0 = (*_CONTRACT, *_FAKE, "tests/cli")

# With injection, the pages and the examples. Injection into asyncio takes 0.2 s a strike:
# CONTRIBUTING has the command.
_EVERYTHING = (*_DOM0, "tests/injection/test_channel.py", "tests/docs", "tests/examples")

_STATIC = ("tests/contract/test_static_channels.py", "tests/cli/test_static.py", "--static")

MACHINES = {
    "pv-6.1-4.17": Machine(
        "dom0 of Debian 12",
        ("--linux=6.1", "--xen=4.17", "--toolstack"),
        _EVERYTHING,
        gate=_DOM0,
    ),
    "life-pv": Machine(
        "PV guests that are saved, restored, rebooted, and end",
        ("--linux=6.1", "--xen=4.17", "--toolstack"),
        _LIFE,
        gate=(*_LIFE, "-k=no_port or spoken"),
    ),
    # It takes longest, so it is not the last: others run beside it.
    "guests-hvm": Machine(
        "HVM guests beside dom0",
        # The guests' QEMU boots no kernel that is unpacked, as that of 6.1 is in the cache.
        ("--linux=6.12", "--xen=4.17", "--toolstack"),
        (*_WITH_GUESTS, "--guests=hvm-1,hvm-2"),
    ),
    "pvh-dom0": Machine(
        "PVH dom0",
        ("--linux=6.12", "--xen=4.20", "--dom0=pvh", "--toolstack"),
        (*_DOM0, "--guests=pvh-1"),
        gate=(*_DRIVER, "tests/contract/test_domains.py", "--guests=pvh-1"),
    ),
    "arm64": Machine(
        "dom0 on Arm, with static event channels",
        ("--arch=arm64", "--static"),
        (*_CONTRACT, *_FAKE, "tests/cli/test_static.py", "--static"),
        gate=(*_DRIVER, *_STATIC),
    ),
    "guests-pvh": Machine(
        "dom0 of Debian 13, and PVH guests beside it",
        ("--linux=6.12", "--xen=4.20", "--toolstack"),
        (*_WITH_GUESTS, "--guests=pvh-1,pvh-2"),
    ),
    "life-pvh": Machine(
        "the same with PVH guests",
        ("--linux=6.12", "--xen=4.20", "--toolstack"),
        (*_LIFE, "--guests=pvh-1"),
    ),
    "inside-pv": Machine(
        "the contract in a PV guest",
        ("--linux=6.1", "--xen=4.17", "--guest=pv"),
        _CONTRACT,
    ),
    "inside-pvh": Machine(
        "the contract in a PVH guest",
        ("--linux=6.12", "--xen=4.17", "--guest=pvh"),
        _CONTRACT,
    ),
    "pv-2l": Machine(
        "dom0 with 2-level event channels",
        ("--linux=6.1", "--xen=4.17", "--abi=2l", "--toolstack"),
        (*_DOM0, _FAKES_TWO),
        gate=_DRIVER,
    ),
    "pv-6.12-4.20": Machine(
        "dom0 of Debian 13",
        ("--linux=6.12", "--xen=4.20", "--toolstack"),
        _EVERYTHING,
        vcpus=2,
    ),
    "pv-7.2-4.20": Machine(
        "dom0 with the newest kernel",
        ("--linux=7.2", "--xen=4.20", "--toolstack"),
        _DOM0,
    ),
    "guests-pv": Machine(
        "PV guests beside dom0",
        ("--linux=6.1", "--xen=4.17", "--toolstack"),
        (*_WITH_GUESTS, "--guests=pv-1,pv-2"),
    ),
}

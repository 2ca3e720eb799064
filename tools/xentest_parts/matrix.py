"""The machines that the tests are run in, and which tests in each."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Machine:
    """A machine with a name.

    Attributes:
        about: what it is for, in a line.
        options: tools/xenvm's.
        tests: pytest's arguments.
        gate: what of that the gate runs, if it does.
    """

    about: str
    options: tuple[str, ...]
    tests: tuple[str, ...]
    gate: tuple[str, ...] = ()


_CONTRACT = ("tests/contract",)
_FAKE = "tests/differential/test_differential.py::test_the_fake_answers_as_the_driver_does"
# With the fake beside the device, injection, the commands, the pages and the examples. Two domains
# take a second a step, and injection into asyncio a fifth of a second a strike: CONTRIBUTING has
# the commands.
_EVERYTHING = (
    *_CONTRACT,
    _FAKE,
    *("tests/injection/test_channel.py", "tests/cli", "tests/docs", "tests/examples"),
)
_WITH_GUESTS = ("tests/contract/test_domains.py", "tests/cli/test_guest.py")

MACHINES = {
    "pv-6.1-4.17": Machine(
        "dom0 of Debian 12",
        ("--linux=6.1", "--xen=4.17", "--toolstack"),
        _EVERYTHING,
        gate=_EVERYTHING,
    ),
    "pv-6.12-4.20": Machine(
        "dom0 of Debian 13",
        ("--linux=6.12", "--xen=4.20", "--toolstack"),
        _EVERYTHING,
        gate=_CONTRACT,
    ),
    "pv-7.2-4.20": Machine(
        "dom0 with the newest kernel",
        ("--linux=7.2", "--xen=4.20", "--toolstack"),
        _EVERYTHING,
    ),
    "pv-2l": Machine(
        "dom0 with 2-level event channels",
        ("--linux=6.1", "--xen=4.17", "--abi=2l", "--toolstack"),
        _EVERYTHING,
        gate=_CONTRACT,
    ),
    "pvh-dom0": Machine(
        "PVH dom0",
        ("--linux=6.12", "--xen=4.20", "--dom0=pvh", "--toolstack"),
        _EVERYTHING,
        gate=_CONTRACT,
    ),
    "arm64": Machine(
        "dom0 on Arm, with static event channels",
        ("--arch=arm64", "--static"),
        (*_EVERYTHING, "--static"),
        gate=(*_CONTRACT, "--static"),
    ),
    "guests-pv": Machine(
        "PV guests beside dom0",
        ("--linux=6.1", "--xen=4.17", "--toolstack"),
        (*_WITH_GUESTS, "--guests=pv-1,pv-2"),
    ),
    "guests-pvh": Machine(
        "PVH guests beside dom0",
        ("--linux=6.12", "--xen=4.20", "--toolstack", "--one-thread"),
        (*_WITH_GUESTS, "--guests=pvh-1,pvh-2"),
        gate=(*_WITH_GUESTS, "--guests=pvh-1"),
    ),
    "guests-hvm": Machine(
        "HVM guests beside dom0",
        ("--linux=6.1", "--xen=4.17", "--toolstack", "--one-thread"),
        (*_WITH_GUESTS, "--guests=hvm-1,hvm-2"),
    ),
    "inside-pv": Machine(
        "the contract in a PV guest",
        ("--linux=6.1", "--xen=4.17", "--guest=pv"),
        _CONTRACT,
        gate=_CONTRACT,
    ),
    "inside-pvh": Machine(
        "the contract in a PVH guest",
        ("--linux=6.12", "--xen=4.17", "--guest=pvh"),
        _CONTRACT,
    ),
}

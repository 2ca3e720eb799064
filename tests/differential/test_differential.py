"""The fake against the real driver: the same steps on both, every answer compared.

It needs dom0's event channels to itself, and leaves dom0 one vCPU meanwhile: with several, the
order of events is not the driver's alone. ``--examples N`` says how many sequences to try.
"""

import contextlib
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, note, settings
from hypothesis import strategies as st

from .worlds import Fence, Worlds

pytestmark = pytest.mark.backends("real")

OPERATIONS = {
    "bind_interdomain": 8,
    "notify": 8,
    "read": 7,
    "write": 7,
    "bind_unbound_port": 5,
    "unbind": 4,
    "poll": 4,
    "open": 3,
    "bind_virq": 2,
    "bind_static": 2,
    "close": 1,
    "dup": 1,
    "reset": 1,
    "restrict": 1,
    "churn": 1,
}
NUMBERS = st.integers(0, 2**12)
STEPS = st.tuples(
    st.sampled_from([name for name, weight in OPERATIONS.items() for _ in range(weight)]),
    NUMBERS,
    NUMBERS,
    NUMBERS,
)


@pytest.fixture(scope="module")
def one_vcpu() -> Iterator[None]:
    switches = sorted(Path("/sys/devices/system/cpu").glob("cpu[1-9]*/online"))
    for switch in switches:
        switch.write_text("0")
    yield
    for switch in switches:
        with contextlib.suppress(OSError):
            switch.write_text("1")


@pytest.mark.usefixtures("backend", "one_vcpu")
def test_the_fake_answers_as_the_driver_does(
    pytestconfig: pytest.Config, capsys: pytest.CaptureFixture[str]
) -> None:
    fence = Fence()
    steps = 0
    sequences = 0

    @settings(
        max_examples=pytestconfig.getoption("--examples"),
        deadline=None,
        database=None,
        suppress_health_check=list(HealthCheck),
    )
    @given(st.lists(STEPS, min_size=30, max_size=60))
    def compare(sequence: list[tuple[str, int, int, int]]) -> None:
        nonlocal steps, sequences
        worlds = Worlds(fence)
        try:
            for step in sequence:
                note(worlds.step(*step))
                steps += 1
        finally:
            worlds.close()
        sequences += 1

    try:
        compare()
    finally:
        fence.device.close()
    with capsys.disabled():
        print(f"\n{sequences} sequences, {steps} steps, no difference")

"""Resumes with a signal handler that raises, at each of its opcodes."""

from collections.abc import Callable, Iterator

import pytest

from pyxenevtchn import ChannelClosed, Resumes
from pyxenevtchn.fake import Hypervisor

from ..descriptors import descriptors
from .strike import Strike, strikes

pytestmark = pytest.mark.timeout(300)


@pytest.fixture(params=[KeyboardInterrupt, TimeoutError])
def everywhere(request: pytest.FixtureRequest) -> Callable[[], Iterator[Strike]]:
    """Strikes at each opcode of a call, with one error."""
    return lambda: strikes(request.param)


def assert_raised(strike: Strike) -> None:
    assert strike.error is strike.raised, strike.place


def test_nothing_stays_open(everywhere: Callable[[], Iterator[Strike]]) -> None:
    def listen() -> None:
        with Resumes() as resumes:
            resumes.wait(0)

    before = descriptors()
    for strike in everywhere():
        strike.run(listen)
        assert_raised(strike)
        assert descriptors() == before, strike.place


def test_no_resume_is_lost(everywhere: Callable[[], Iterator[Strike]]) -> None:
    guest = Hypervisor().create_domain()
    for strike in everywhere():
        with guest.resumes() as resumes:
            guest.checkpoint()
            strike.run(lambda resumes=resumes: resumes.wait(0))  # type: ignore[misc]
            assert_raised(strike)
            assert strike.value is True or resumes.wait(0), strike.place


def test_it_can_be_closed_again(everywhere: Callable[[], Iterator[Strike]]) -> None:
    guest = Hypervisor().create_domain()
    for strike in everywhere():
        resumes = guest.resumes()
        strike.run(resumes.close)
        assert_raised(strike)
        resumes.close()
        with pytest.raises(ChannelClosed):
            resumes.wait()

"""Commands print what the pages' transcripts show."""

import pytest

from . import transcripts
from .pages import blocks

ALL = dict(blocks("console"))
ON_A_DOM0 = [place for place, text in ALL.items() if transcripts.needs_xen(text)]
ON_THE_FAKE = [place for place in ALL if place not in ON_A_DOM0]


def check(place: str) -> None:
    now = transcripts.run(ALL[place])
    assert transcripts.comparable(now) == transcripts.comparable(ALL[place]), now


@pytest.mark.parametrize("place", ON_THE_FAKE)
@pytest.mark.backends("fake")
@pytest.mark.usefixtures("backend")
def test_a_transcript_on_the_fake(place: str) -> None:
    check(place)


@pytest.mark.parametrize("place", ON_A_DOM0)
@pytest.mark.backends("real")
@pytest.mark.usefixtures("backend")
def test_a_transcript_on_a_dom0(place: str) -> None:
    check(place)

"""Resumes and AsyncResumes, on a fake; in a real dom0, setting the clock acts like a resume."""

import asyncio
import select
import signal
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import pytest

from pyxenevtchn import AsyncResumes, ChannelClosed, Resumes
from pyxenevtchn.fake import Hypervisor

from ..concurrency import child, struck, threads, until_asleep
from ..descriptors import descriptors
from ..limits import TIMEOUT
from .loops import Run, cancel

# The other backends use this machine's clock, which a test must not set.
pytestmark = [pytest.mark.backends("fake", "real"), pytest.mark.only("dom0")]


@dataclass(frozen=True)
class Resumable:
    """A domain that can be resumed.

    Attributes:
        listen: opens a Resumes in it.
        resume: has the effect of a resume on each Resumes.
    """

    listen: Callable[[], Resumes]
    resume: Callable[[], object]


@pytest.fixture
def domain(backend: str, xen: Hypervisor) -> Resumable:
    if backend == "real":
        return Resumable(Resumes, lambda: time.clock_settime(time.CLOCK_REALTIME, time.time()))
    guest = xen.create_domain()
    return Resumable(guest.resumes, guest.checkpoint)


@pytest.fixture
def resumes(domain: Resumable) -> Iterator[Resumes]:
    with domain.listen() as resumes:
        yield resumes


def test_a_wait_without_a_resume_returns_false(resumes: Resumes) -> None:
    assert resumes.wait(0) is False
    assert resumes.wait(0.01) is False


def test_each_resume_is_heard_once(domain: Resumable, resumes: Resumes) -> None:
    for _ in range(3):
        domain.resume()
        assert resumes.wait(TIMEOUT) is True
        assert resumes.wait(0) is False


def test_several_resumes_before_a_wait_count_as_one(domain: Resumable, resumes: Resumes) -> None:
    domain.resume()
    domain.resume()
    assert resumes.wait(TIMEOUT)
    assert not resumes.wait(0)


def test_every_listener_hears_a_resume(domain: Resumable, resumes: Resumes) -> None:
    with domain.listen() as other:
        domain.resume()
        assert resumes.wait(TIMEOUT)
        assert other.wait(TIMEOUT)


def test_a_resume_before_listening_is_not_heard(domain: Resumable) -> None:
    domain.resume()
    with domain.listen() as resumes:
        assert not resumes.wait(0)


def test_the_descriptor_is_readable_until_the_next_wait(
    domain: Resumable, resumes: Resumes
) -> None:
    poll = select.poll()
    poll.register(resumes, select.POLLIN)
    assert poll.poll(0) == []
    domain.resume()
    assert poll.poll(TIMEOUT * 1000) == poll.poll(0) == [(resumes.fileno(), select.POLLIN)]
    assert resumes.wait(0)
    assert poll.poll(0) == []


def test_a_resume_wakes_a_waiting_thread(domain: Resumable, resumes: Resumes) -> None:
    def wait() -> None:
        assert resumes.wait(TIMEOUT)

    with threads(wait) as [thread]:
        until_asleep(thread)
        domain.resume()


def test_each_resume_wakes_one_of_the_threads_that_wait_on_an_object(
    domain: Resumable, resumes: Resumes
) -> None:
    def wait() -> None:
        assert resumes.wait(TIMEOUT)

    with threads(wait, wait) as waiting:
        for thread in waiting:
            until_asleep(thread)
        domain.resume()
        while all(thread.is_alive() for thread in waiting):
            waiting[0].join(0.001)
        assert not all(not thread.is_alive() for thread in waiting)
        domain.resume()


def test_closing_wakes_the_waiters(resumes: Resumes) -> None:
    def wait() -> None:
        with pytest.raises(ChannelClosed):
            resumes.wait(TIMEOUT)

    with threads(wait, wait) as waiting:
        for thread in waiting:
            until_asleep(thread)
        resumes.close()


def test_a_closed_object_refuses_every_call(domain: Resumable, resumes: Resumes) -> None:
    resumes.close()
    resumes.close()
    assert resumes.closed
    domain.resume()
    with pytest.raises(ChannelClosed):
        resumes.wait(0)
    with pytest.raises(ChannelClosed):
        resumes.fileno()
    assert "closed" in repr(resumes)


def test_nothing_stays_open(domain: Resumable) -> None:
    before = descriptors()
    domain.listen().close()
    domain.listen()
    assert descriptors() == before


def test_a_timeout_is_never_negative(resumes: Resumes) -> None:
    for timeout in (-1, float("nan")):
        with pytest.raises(ValueError, match="timeout"):
            resumes.wait(timeout)


def test_a_signal_ends_no_wait(domain: Resumable, resumes: Resumes) -> None:
    with struck(lambda _number, _frame: domain.resume()):
        assert resumes.wait(TIMEOUT)


def test_a_timeout_that_a_signal_interrupts_still_ends(resumes: Resumes) -> None:
    seen: list[int] = []
    while not seen:
        with struck(lambda number, _frame: seen.append(number)):
            assert not resumes.wait(0.2)


def test_ctrl_c_ends_a_wait_and_loses_nothing(domain: Resumable, resumes: Resumes) -> None:
    with pytest.raises(KeyboardInterrupt), struck(signal.default_int_handler):
        resumes.wait(TIMEOUT)
    domain.resume()
    assert resumes.wait(TIMEOUT)


def test_a_child_may_only_close(domain: Resumable, resumes: Resumes) -> None:
    def use() -> None:
        with pytest.raises(RuntimeError, match="parent"):
            resumes.wait(0)
        with pytest.raises(RuntimeError, match="parent"):
            resumes.fileno()
        resumes.close()

    with child(use):
        pass
    assert not resumes.wait(0)
    domain.resume()
    assert resumes.wait(TIMEOUT)


# asyncio.


def test_a_resume_wakes_a_waiting_task(domain: Resumable, run: Run) -> None:
    async def main() -> None:
        async with AsyncResumes(domain.listen()) as resumes:
            for _ in range(2):
                waiting = asyncio.ensure_future(resumes.wait())
                await asyncio.sleep(0.01)
                assert not waiting.done()
                domain.resume()
                await waiting

    run(main)  # the first loop of a process opens descriptors that stay open
    before = descriptors()
    run(main)
    assert descriptors() == before


def test_a_wait_after_a_resume_ends_at_once(domain: Resumable, run: Run) -> None:
    async def main() -> None:
        async with AsyncResumes(domain.listen()) as resumes:
            domain.resume()
            await resumes.wait()

    run(main)


def test_each_resume_wakes_one_of_the_tasks(domain: Resumable, run: Run) -> None:
    async def main() -> None:
        async with AsyncResumes(domain.listen()) as resumes:
            waiting = {asyncio.ensure_future(resumes.wait()) for _ in range(3)}
            for left in (2, 1, 0):
                await asyncio.sleep(0)
                domain.resume()
                _, waiting = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
                assert len(waiting) == left

    run(main)


def test_a_cancelled_task_loses_nothing(domain: Resumable, run: Run) -> None:
    async def main() -> None:
        async with AsyncResumes(domain.listen()) as resumes:
            waiting = asyncio.ensure_future(resumes.wait())
            await asyncio.sleep(0)
            await cancel(waiting)
            waiting = asyncio.ensure_future(resumes.wait())
            await asyncio.sleep(0)
            domain.resume()
            await cancel(waiting)
            await resumes.wait()

    run(main)


def test_closing_in_a_thread_wakes_the_tasks(domain: Resumable, run: Run) -> None:
    async def main() -> None:
        resumes = AsyncResumes(domain.listen())
        waiting = [asyncio.ensure_future(resumes.wait()) for _ in range(2)]
        await asyncio.sleep(0)
        with threads(resumes.close):
            for each in waiting:
                with pytest.raises(ChannelClosed):
                    await each
        assert resumes.closed

    run(main)

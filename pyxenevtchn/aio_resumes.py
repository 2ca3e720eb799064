"""AsyncResumes: wait for Resumes in asyncio."""

import asyncio
from types import TracebackType
from typing import Self

from .descriptors import Descriptor
from .resumes import Resumes


class AsyncResumes:
    """A Resumes object on which asyncio tasks wait; it does not need a thread.

    If several tasks, of any event loop, or threads wait, each report goes to one of them. A task
    that is cancelled while it waits loses nothing. Closing the object, from any thread, wakes all
    waiters with ChannelClosed.
    """

    def __init__(self, resumes: Resumes) -> None:
        """Take over a Resumes object: closing this closes it."""
        self.resumes = resumes

    @property
    def closed(self) -> bool:
        """Whether it is closed."""
        return self.resumes.closed

    async def wait(self) -> None:
        """Wait until this domain may have been resumed (see Resumes.wait).

        Raises:
            ChannelClosed: it was closed, before or while this waited.
            OSError: EMFILE.
        """
        loop = asyncio.get_running_loop()
        while not self.resumes.wait(0):
            # One for each task: an event loop allows one reader of a descriptor.
            watched = Descriptor.duplicate(self.resumes.fileno())
            readable = asyncio.Event()
            loop.add_reader(watched.number, readable.set)
            try:
                await readable.wait()
            finally:
                loop.remove_reader(watched.number)
                watched.close()

    def close(self) -> None:
        """Stop listening, and wake all waiters."""
        self.resumes.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

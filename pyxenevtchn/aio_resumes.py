"""AsyncResumes: Resumes, waited for in asyncio."""

import asyncio
import os
from types import TracebackType
from typing import Self

from .descriptors import Descriptor
from .resumes import Resumes


class AsyncResumes:
    """A Resumes object that is waited for in asyncio, without a thread.

    Tasks, of any event loop, and threads share what it hears: one of them is told. A task that is
    cancelled while it waits loses nothing. Closing it, from any thread, wakes them all with
    ChannelClosed.
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
            # One for each task: a loop has one reader of a descriptor.
            watched = Descriptor(os.dup, self.resumes.fileno())
            readable = asyncio.Event()
            loop.add_reader(watched.number, readable.set)
            try:
                await readable.wait()
            finally:
                loop.remove_reader(watched.number)
                watched.close()

    def close(self) -> None:
        """Stop listening, and wake those who wait."""
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

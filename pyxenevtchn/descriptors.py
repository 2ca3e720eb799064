"""File descriptors that an object owns, from the call that creates them until it is freed."""

import os
import select
from collections.abc import Callable


class Descriptor:
    """A descriptor that is closed when this object is freed.

    The number is not reused while a running call holds a reference to the object. The descriptor
    does not leak, wherever a signal handler raises.

    Attributes:
        number: the descriptor's number.
    """

    def __init__(self, make: Callable[..., int], *arguments: object) -> None:
        """Create a descriptor.

        Args:
            make: the function that creates it; one in C, such as ``os.open``.
            arguments: the arguments of ``make``.

        Raises:
            OSError: as ``make``.
        """
        self._owners: list[select.epoll] = []
        # One call into C, so no signal handler runs between the creation of the descriptor and that
        # of its owner. The owner is an epoll object, because it closes its number when it is freed,
        # in C and without an error.
        numbers = map(make, *[[argument] for argument in arguments])
        self._owners.extend(map(select.epoll.fromfd, numbers))
        self.number: int = self._owners[0].fileno()

    def close(self) -> None:
        """Close the descriptor now; no call may be using it."""
        self._owners[0].close()


class BorrowedDescriptor:
    """A descriptor that belongs to someone else until ``owned`` is set.

    Attributes:
        number: the descriptor's number.
        owned: whether the descriptor is closed when this object is freed.
    """

    # Set here and not in __init__, where a signal handler may raise.
    owned: bool = False

    def __init__(self, number: int) -> None:
        self.number: int = number

    def __del__(self) -> None:
        if self.owned:
            os.close(self.number)


def make_dead() -> Descriptor:
    """Create a descriptor on which read, write and ioctl fail with EBADF.

    Raises:
        OSError: EMFILE.
    """
    return Descriptor(os.open, "/", os.O_PATH | os.O_CLOEXEC)

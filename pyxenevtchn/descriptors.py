"""Descriptor numbers that belong to an object, from the call that makes them to its end."""

import os
import select
from collections.abc import Callable


class Descriptor:
    """A descriptor whose number goes with this object.

    Nobody else gets the number while a call that holds the object is under way; and none leaks,
    wherever a signal handler raises.

    Attributes:
        number: the number.
    """

    def __init__(self, make: Callable[..., int], *arguments: object) -> None:
        """Make a descriptor.

        Args:
            make: what makes it: a function in C, such as ``os.open``.
            arguments: its arguments.

        Raises:
            OSError: as ``make``.
        """
        self._owners: list[select.epoll] = []
        # In one call into C, so that no handler runs between the call that makes a descriptor and
        # the object that owns it: an epoll's, because that closes whatever number it has as it is
        # freed, in C and in silence.
        numbers = map(make, *[[argument] for argument in arguments])
        self._owners.extend(map(select.epoll.fromfd, numbers))
        self.number: int = self._owners[0].fileno()

    def close(self) -> None:
        """Close it at once: no call can be under way."""
        self._owners[0].close()


class BorrowedDescriptor:
    """A descriptor that is somebody else's, until it is ``owned``.

    Attributes:
        number: the number.
        owned: whether the number goes with this object.
    """

    # From the first moment on, for a handler may raise at any.
    owned: bool = False

    def __init__(self, number: int) -> None:
        self.number: int = number

    def __del__(self) -> None:
        if self.owned:
            os.close(self.number)


def make_dead() -> Descriptor:
    """Make a descriptor on which read, write and ioctl are EBADF.

    Raises:
        OSError: EMFILE.
    """
    return Descriptor(os.open, "/", os.O_PATH | os.O_CLOEXEC)

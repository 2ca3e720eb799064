"""The base of EventChannel: opening, closing, staleness, forks and errors."""

import errno
import warnings
from collections.abc import Mapping
from types import TracebackType
from typing import Any, NoReturn, Self

from .abi import DOMID_SELF, PORT_BYTES, Request
from .bindings import Binding, Bindings
from .compiled import ffi, lib
from .device import NUMBERS, Device, raise_kept
from .errors import STALE_HINT, ChannelClosed, operation_error, stale_handle

# Words of a Batch.
COUNT, DONE, BOUND, PORTS = 0, 1, 2, 3


class Batch:
    """What one call, or one loop, has taken from the core (see core/handle.h).

    Attributes:
        pointer: the C struct.
        words: its words: ``words[COUNT]`` ports from ``words[PORTS]`` on were taken;
            ``words[DONE]`` of them are to be unmasked; ``words[BOUND]`` is a port that was bound.
    """

    __slots__ = ("pointer", "words")

    def __init__(self) -> None:
        self.pointer: Any = ffi.new("struct batch *")
        self.words: memoryview = memoryview(ffi.buffer(self.pointer)).cast("I")


class Handle:
    """The base of EventChannel. All state is in the C struct; each method is one call into C."""

    # A closed one, for __del__, which runs even if __init__ did not come far.
    _handle: Any = ffi.new("struct handle *")

    def __init__(self, device: Device) -> None:
        # Owned before anything is open: wherever a signal handler raises, nothing leaks.
        self._handle = ffi.gc(ffi.new("struct handle *"), lib.handle_free)
        if not isinstance(device, Device):
            raise TypeError(
                f"EventChannel takes a Device, not {device!r}: to open one by name or path, use"
                " EventChannel.open()"
            )
        self._device = device
        # If this fails, or its caller in this package, nobody is to be warned.
        was_new, device.is_new = device.is_new, True
        self._batches: list[Batch] = []
        """Empty ones, that no call uses."""
        result = lib.handle_take(self._handle, device.core, device.space)
        if result == lib.CLOSED:
            raise ChannelClosed(f"{device.name}: the device is closed, or in use by another handle")
        if result < 0:
            raise operation_error("eventfd", (), -result, device.name)
        device.is_new = was_new

    @property
    def closed(self) -> bool:
        """Whether the handle is closed."""
        return self._handle.state in {lib.IS_CLOSED, lib.IS_CLOSED_STALE}

    @property
    def stale(self) -> bool:
        """Whether the handle is known to have lost its ports, because the domain was restored."""
        return self._handle.state in {lib.IS_STALE, lib.IS_CLOSED_STALE}

    def fileno(self) -> int:
        """Return the descriptor, for select, poll, epoll, asyncio and fcntl.

        Always writable; readable while events are pending; only POLLERR after an overflow.
        Edge-triggered epoll and SIGIO report only the change from no pending event to some
        (driver).

        Raises:
            ChannelClosed: the handle is closed.
        """
        fd = lib.handle_fileno(self._handle)
        if fd < 0:
            self._fail("fileno", (), fd)
        return fd

    def close(self) -> None:
        """Close the handle and unbind its ports; it may be called again.

        Calls of other threads that are still running may use the ports until they return; the last
        one closes the descriptor.

        The descriptor of a handle that is ``stale`` stays open until the process ends, because
        closing it is a kernel BUG; a RuntimeWarning says so.
        """
        result = lib.handle_close(self._handle)
        if result == lib.RAISED:
            raise_kept()
        if result:
            warnings.warn(
                f"{self.name}: the handle is stale, and its descriptor stays open: {STALE_HINT}",
                RuntimeWarning,
                stacklevel=2,
            )

    def mark_stale(self) -> None:
        """Mark the handle as stale: this domain was restored after the handle bound its ports.

        From now on every call raises StaleHandle, including those that wait now, and ``close``
        leaves the descriptor open. ``bindings`` does not change until then: it lists what to bind
        again. A handle without ports is not stale and does not change.
        """
        lib.handle_mark_stale(self._handle)

    def check_stale(self) -> bool:
        """Check whether this domain was restored after the ports in ``bindings`` were bound.

        True is proof: Xen allocated a number of the handle to another handle, which is opened only
        for this check. The handle is then as after ``mark_stale``. False is not proof if all the
        numbers were allocated again since the restore: check before you bind anything again. The
        check costs two requests for each number that is free below the handle's highest port,
        usually few.

        Of an adopted handle only the ports in ``bindings`` are checked; one that was unbound
        through a duplicate of the descriptor counts as lost.

        Raises:
            OSError: the device cannot be opened again; the handle does not change.
            ChannelClosed: the handle is closed.
        """
        self._check(stale=True)
        found = self._is_found_stale()
        if isinstance(found, OSError):
            raise found
        self._check(stale=True)
        return found

    def _is_found_stale(self) -> bool | OSError:
        """Do what ``check_stale`` does; return the error if the device cannot be opened again."""
        if not self.stale and self.bindings:
            other = self._device.reopen()
            if isinstance(other, OSError):
                return other
            if self._has_lost_a_port(other):
                lib.handle_mark_stale(self._handle)
        return self.stale

    def _has_lost_a_port(self, other: Device) -> bool:
        """Return whether Xen allocates a port of this handle, the lowest free one, to another."""
        highest = max(self.bindings, default=0)
        entry = ffi.new("struct binding *")
        try:
            bind = NUMBERS[Request.BIND_UNBOUND_PORT]
            port = 0
            while 0 <= port < highest:
                port = lib.device_request(other.core, bind, DOMID_SELF, 0)
                # Looked up while the other handle has it: an unbind of it that is under way, or has
                # ended since, has set it free.
                if port > 0 and lib.handle_binding(self._handle, port, entry):
                    return not entry.leaving
            if port < 0 and port != -errno.ENOSPC:
                self._fail(Request.BIND_UNBOUND_PORT, (DOMID_SELF,), port)
            return False
        finally:
            other.close()

    @property
    def name(self) -> str:
        """The device's name: its path, ``fd N`` for an adopted descriptor, or ``fake:...``."""
        return self._device.name

    @property
    def bindings(self) -> Mapping[int, Binding]:
        """The ports that this object bound, and how: a live, read-only view.

        Copy it with ``dict(channel.bindings.items())``, which is of one moment, to iterate while
        other threads bind ports.
        """
        return Bindings(self._handle)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def __del__(self) -> None:
        # At the interpreter's end the modules may be empty; the process closes what is open.
        if globals()["lib"] is None or self.closed:
            return
        quiet = self.stale or self._device.is_new or lib.handle_is_inherited(self._handle)
        self.close()
        if not quiet:
            # Last, because a filter can turn it into an exception.
            warnings.warn(
                f"{self.name}: the handle was never closed",
                ResourceWarning,
                source=self,
                stacklevel=1,
            )

    def __reduce__(self) -> NoReturn:
        raise TypeError("a handle cannot be copied or pickled; see from_fd for duplicates")

    def __repr__(self) -> str:
        state = "closed" if self.closed else f"fd={self.fileno()} ports={len(self.bindings)}"
        state += " stale" if self.stale else ""
        return f"<{type(self).__name__} {self.name} {state}>"

    def _check(self, *, stale: bool = False) -> None:
        """Raise what a call of this handle would.

        Args:
            stale: whether a stale handle may make it.
        """
        refused = lib.handle_check(self._handle)
        if refused and not (stale and refused == lib.STALE):
            self._fail("", (), refused)

    def _fail(self, operation: str, arguments: tuple[int, ...], result: int) -> NoReturn:
        """Raise the error that a function of the core has returned.

        Args:
            operation: a Request, "read" or "write".
            arguments: its arguments.
            result: a negated errno or a code.
        """
        if result == lib.RAISED:
            raise_kept()
        if result == lib.CLOSED:
            raise ChannelClosed(f"{self.name}: the handle is closed")
        if result == lib.CLOSED_MEANWHILE:
            raise ChannelClosed(f"{self.name}: the handle was closed while a call waited")
        if result == lib.STALE:
            raise stale_handle(self.name)
        if result == lib.INHERITED:
            raise RuntimeError(
                "this handle belongs to the parent process: after a fork the child may only close"
                " it. Open a handle here, or adopt a duplicate of the descriptor with from_fd()"
            )
        raise operation_error(operation, arguments, -result, self.name)

    def _fail_transfer(self, batch: Batch, most: int, result: int) -> NoReturn:
        """Raise the error of a write of the ports to unmask, or of the read after it."""
        done = batch.words[DONE]
        self._fail("write" if done else "read", (PORT_BYTES * (done or most),), result)

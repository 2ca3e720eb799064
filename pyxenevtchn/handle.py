"""The base of EventChannel: errors, closing, staleness and forks."""

import errno
import os
import warnings
import weakref
from collections.abc import Callable, Mapping
from functools import partial
from types import TracebackType
from typing import Any, NoReturn, Self

from .abi import DOMID_SELF, Request
from .bindings import Binding, Bindings
from .device import Device
from .errors import STALE_HINT, ChannelClosed, operation_error, stale_handle
from .inbox import Inbox


class Handle:
    """The base of EventChannel: it opens and closes, and knows whether calls are allowed.

    The device's calls are attributes here. When no call may reach the device any more, functions
    that raise replace them: so a call for an event needs no check.
    """

    closed: bool = True
    """Whether the handle is closed."""

    stale: bool = False
    """Whether the handle is known to have lost its ports, because the domain was restored."""

    def __init__(self, device: Device) -> None:
        self._device = device
        self._bindings = Bindings(device.port_space)
        self._inbox = Inbox(device.new_page)
        self._inherited = False
        # Looked up once, because most are called for every event. _block_calls replaces them.
        self._turn = device.turn
        self._unmask = device.unmask
        self._unmask_one = device.unmask_one
        self._notify = device.request(Request.NOTIFY)
        self._request = device.request
        self._notify_many = device.notify_many
        _channels.add(self)
        self.closed = False

    def fileno(self) -> int:
        """Return the descriptor, for select, poll, epoll, asyncio and fcntl.

        Always writable; readable while events are pending; only POLLERR after an overflow.
        Edge-triggered epoll and SIGIO report only the change from no pending event to some
        (driver).

        Raises:
            ChannelClosed: the handle is closed.
        """
        if self.closed:
            self._refuse()
        return self._device.fileno()

    def close(self) -> None:
        """Close the handle and unbind its ports; it may be called again.

        Calls of other threads that are still running may use the ports until they return.

        The descriptor of a handle that is ``stale`` stays open until the process ends, because
        closing it is a kernel BUG; a RuntimeWarning says so.
        """
        was_closed = self.closed
        if self.stale:
            _kept_open.add(self._device)
        # Each step may run twice: a second call finishes what a signal handler interrupted.
        self.closed = True
        try:
            if not self.stale:
                self._device.close()
        finally:
            try:
                if not self._inherited:
                    self._inbox.close()
            finally:
                self._block_calls(_raise, ChannelClosed, f"{self.name}: the handle is closed")
                self._bindings.clear()
        if self.stale and not (was_closed or self._inherited):
            # Last, because a filter can turn it into an exception.
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
        if self.bindings or not self._bindings.complete:
            self._set_stale()

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
        if self.closed or self._inherited:
            self._refuse()
        if self.stale or self._has_lost_ports():
            # If it is stale already, this finishes what a signal handler may have interrupted.
            self._set_stale()
        if self.closed:
            self._refuse()
        return self.stale

    def _has_lost_ports(self) -> bool:
        # The lock keeps other threads from unbinding a port, whose number would be free then.
        with self._bindings.lock:
            ports = set(self.bindings)
            return bool(ports) and _any_is_free(self._device, ports)

    def _set_stale(self) -> None:
        if self.closed or self._inherited:
            return
        self.stale = True
        self._block_calls(_raise_stale, self.name)
        self._bindings.retire()
        self._inbox.close()

    @property
    def name(self) -> str:
        """The device's name: its path, ``fd N`` for an adopted descriptor, or ``fake:...``."""
        return self._device.name

    @property
    def bindings(self) -> Mapping[int, Binding]:
        """The ports that this object bound, and how: a live, read-only view.

        Copy it with ``dict(channel.bindings)`` to iterate while other threads bind ports.
        """
        return self._bindings.view

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
        if not self.closed:
            quiet = self._inherited or self.stale
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

    def _ioctl(self, request: Request, *arguments: int) -> None:
        result = self._request(request)(*arguments)
        if result < 0:
            self._fail(request, arguments, -result)

    def _fail(self, operation: str, arguments: tuple[int, ...], number: int) -> NoReturn:
        if number == errno.EBADF and self.closed:
            self._refuse()
        raise operation_error(operation, arguments, number, self.name)

    def _check_usable(self) -> None:
        if self.closed or self._inherited or self.stale:
            self._refuse()

    def _refuse(self) -> NoReturn:
        self._request(Request.RESET)
        raise ChannelClosed(f"{self.name}: the handle is closed")

    def _raise_closed_during_wait(self) -> NoReturn:
        raise ChannelClosed(f"{self.name}: the handle was closed while a call waited")

    def _block_calls(self, refuse: Callable[..., NoReturn], *arguments: object) -> None:
        """Replace all calls of the device with ``refuse``, which raises."""
        refusal: Callable[..., Any] = partial(refuse, *arguments)
        self._turn = self._request = self._notify = self._notify_many = refusal
        self._unmask = self._unmask_one = refusal

    def _leave_to_parent(self) -> None:
        """After a fork, in the child: leave the handle to the parent process."""
        self._inherited = True
        if not self.closed:
            self._block_calls(
                _raise,
                RuntimeError,
                "this handle belongs to the parent process: after a fork the child may only close"
                " it. Open a handle here, or adopt a duplicate of the descriptor with from_fd()",
            )


def _any_is_free(device: Device, ports: set[int]) -> bool:
    """Return whether one of these ports is free in Xen, which allocates the lowest free one."""
    other = device.reopen()
    try:
        bind = other.request(Request.BIND_UNBOUND_PORT)
        port, highest = 0, max(ports)
        while 0 <= port < highest and port not in ports:
            port = bind(DOMID_SELF)
        if port < 0 and port != -errno.ENOSPC:
            raise operation_error(Request.BIND_UNBOUND_PORT, (DOMID_SELF,), -port, other.name)
        return port in ports
    finally:
        other.close()


def _raise(kind: type[Exception], message: str, *_: object) -> NoReturn:
    raise kind(message)


def _raise_stale(name: str, *_: object) -> NoReturn:
    raise stale_handle(name)


# The devices of stale handles: their descriptors stay open until the process ends.
_kept_open: set[Device] = set()

_channels: weakref.WeakSet[Handle] = weakref.WeakSet()


def _leave_all_to_parent() -> None:
    for channel in list(_channels):
        channel._leave_to_parent()  # noqa: SLF001 - its own kind


os.register_at_fork(after_in_child=_leave_all_to_parent)

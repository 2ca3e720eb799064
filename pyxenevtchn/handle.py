"""An open device in use: calls that can fail, closing, forks, and what is left at the end."""

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
    """What a handle is before it does anything: EventChannel's beginning and end.

    The device's calls that are made for every event are attributes here, and are replaced by ones
    that raise where no call may come to the device any more: a call costs no check.
    """

    closed: bool = True
    """Whether the handle is closed."""

    stale: bool = False
    """Whether the handle is known to have lost its ports, as the domain was restored."""

    def __init__(self, device: Device) -> None:
        self._device = device
        self._bindings = Bindings(device.port_space)
        self._inbox = Inbox(device.new_page)
        self._inherited = False
        # Bound here once, because each of these is called for every event; and replaced where no
        # call may come to the device any more.
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

        Always writable; readable while events are pending; POLLERR alone after an overflow. An
        edge-triggered epoll, like SIGIO, hears of the change from none pending to some (driver).

        Raises:
            ChannelClosed: the handle is closed.
        """
        if self.closed:
            self._refuse()
        return self._device.fileno()

    def close(self) -> None:
        """Close the handle and unbind its ports; it may be called again.

        Nothing is under way on the ports any more once the calls of other threads have returned.

        The descriptor of a handle that is ``stale`` stays open until the process ends, because to
        close it is a kernel BUG; a RuntimeWarning says so.
        """
        was_closed = self.closed
        if self.stale:
            _kept.add(self._device)
        # Each step may be made twice: one that a signal handler interrupts is finished by the next.
        self.closed = True
        try:
            if not self.stale:
                self._device.close()
        finally:
            try:
                if not self._inherited:
                    self._inbox.close()
            finally:
                self._shut(_raise, ChannelClosed, f"{self.name}: the handle is closed")
                self._bindings.clear()
        if self.stale and not (was_closed or self._inherited):
            # Last, because a filter can make it an exception.
            warnings.warn(
                f"{self.name}: the handle is stale, and its descriptor stays open: {STALE_HINT}",
                RuntimeWarning,
                stacklevel=2,
            )

    def mark_stale(self) -> None:
        """Have the handle known to be stale: this domain was restored since it bound its ports.

        From now on every call is a StaleHandle, those that wait included, and ``close`` leaves the
        descriptor open. ``bindings`` stays as it was until then: it tells what to bind anew. A
        handle without a port is not stale, and is left as it is.
        """
        if self.bindings or not self._bindings.complete:
            self._set_stale()

    def check_stale(self) -> bool:
        """Find out whether this domain was restored since it bound the ports in ``bindings``.

        True is proof: Xen gives a number of the handle's to a port of another handle, which is open
        for this alone. Then the handle is as after ``mark_stale``. False is none where all its
        numbers have been given again since the restore: ask before anything is bound anew. It costs
        two requests for each number that is free below the handle's highest port, as a rule few.

        Of an adopted handle only the ports in ``bindings`` are asked about; one that was unbound by
        way of a duplicate of the descriptor counts as lost.

        Raises:
            OSError: the device cannot be opened again; the handle is as before.
            ChannelClosed: the handle is closed.
        """
        if self.closed or self._inherited:
            self._refuse()
        if self.stale or self._has_lost_ports():
            # Made twice it finishes what a signal handler may have interrupted.
            self._set_stale()
        if self.closed:
            self._refuse()
        return self.stale

    def _has_lost_ports(self) -> bool:
        # Nobody unbinds a port of the handle meanwhile: its number would be free then.
        with self._bindings.lock:
            ports = set(self.bindings)
            return bool(ports) and _gives_again(self._device, ports)

    def _set_stale(self) -> None:
        if self.closed or self._inherited:
            return
        self.stale = True
        self._shut(_raise_stale, self.name)
        self._bindings.retire()
        self._inbox.close()

    @property
    def name(self) -> str:
        """The device's name: its path, ``fd N`` for an adopted descriptor, or ``fake:...``."""
        return self._device.name

    @property
    def bindings(self) -> Mapping[int, Binding]:
        """The ports that this object bound, and how: a live, read-only view.

        Copy it, ``dict(channel.bindings)``, to go through it while other threads bind.
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
                # Last, because a filter can make it an exception.
                warnings.warn(
                    f"{self.name}: the handle was never closed",
                    ResourceWarning,
                    source=self,
                    stacklevel=1,
                )

    def __reduce__(self) -> NoReturn:
        raise TypeError("a handle can be neither copied nor pickled; see from_fd for duplicates")

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

    def _closed_while_it_waited(self) -> NoReturn:
        raise ChannelClosed(f"{self.name}: the handle was closed while a call waited")

    def _shut(self, refuse: Callable[..., NoReturn], *arguments: object) -> None:
        """Keep all calls from the device: they call this, which raises."""
        refusal: Callable[..., Any] = partial(refuse, *arguments)
        self._turn = self._request = self._notify = self._notify_many = refusal
        self._unmask = self._unmask_one = refusal

    def _disown(self) -> None:
        """In a child process: leave the handle to the parent."""
        self._inherited = True
        if not self.closed:
            self._shut(
                _raise,
                RuntimeError,
                "this handle belongs to the parent process: after a fork the child may only close"
                " it. Open a handle here, or adopt a duplicate of the descriptor with from_fd()",
            )


def _gives_again(device: Device, ports: set[int]) -> bool:
    """Return whether one of these ports is free in Xen, which gives the lowest free one first."""
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


# The devices of stale handles: their descriptors stay open for as long as the process lives.
_kept: set[Device] = set()

_channels: weakref.WeakSet[Handle] = weakref.WeakSet()


def _disown_all() -> None:
    for channel in list(_channels):
        channel._disown()  # noqa: SLF001 - its own kind


os.register_at_fork(after_in_child=_disown_all)

"""A real dom0 and a fake one, driven side by side."""

import contextlib
import errno
import os
import platform
import select
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial

from pyxenevtchn import DOMID_FIRST_RESERVED, DOMID_IO, DOMID_SELF, Device, Request, Virq
from pyxenevtchn.abi import pack_ports, unpack_ports
from pyxenevtchn.fake import Hypervisor
from pyxenevtchn.kernel import KernelDevice, open_kernel
from pyxenevtchn.opening import adopt_device

from ..conftest import DEVICE_NODE
from ..contract.raw import raw_read, raw_write

TIMEOUT = 20.0
MAX_FILES = 5

HAS_STATIC = tuple(map(int, platform.release().split(".")[:2])) >= (6, 6)
# Free in any quiet dom0: the one number that a file may take over by BIND_STATIC.
FREE_PORT = 4000
# The FIFO ABI's array of channels grows by so many.
_CHANNELS_PAGE = 1024
# Ports that no file ever has: none at all, the kernel's, free ones, and out of range.
STRANGERS = (0, 1, 1023, 1024, 5000, 131071, 131072, 2**32 - 1)
DOMIDS = (0, DOMID_SELF, 0x10000, 0x10000 + DOMID_SELF, 1, 999, DOMID_IO, 0xFFFF, 2**32 - 1)
# Xen raises the console ring's by itself; 24 and above do not exist.
VIRQS = tuple(virq for virq in range(26) if virq != Virq.CON_RING)
RESTRICTIONS = (0, 1, 999, DOMID_FIRST_RESERVED - 1, DOMID_FIRST_RESERVED, 0xFFFF)
SIZES = (0, 1, 3, 4, 5, 7, 8, 12, 64, 4096, 5000, 8192)


@dataclass(eq=False)
class File:
    """An open file on either side, and the ports that it shares with its duplicates."""

    real: Device
    fake: Device
    ports: set[int] = field(default_factory=set)

    def close(self) -> None:
        self.real.close()
        self.fake.close()


class Fence:
    """A loopback pair on a real file of its own: its event comes after every earlier one.

    Attributes:
        device: the file.
        channels: how many channels the real kernel is ready for; it answers EINVAL from there on.
    """

    def __init__(self) -> None:
        self.device = open_kernel(DEVICE_NODE, nonblocking=True, cloexec=True)
        if HAS_STATIC:
            self.device.ioctl(Request.BIND_STATIC, FREE_PORT)
            self.device.ioctl(Request.UNBIND, FREE_PORT)
        pages = range(_CHANNELS_PAGE, 2**17, _CHANNELS_PAGE)
        self.channels = next((n for n in pages if self._is_out_of_range(n)), 2**17)
        self._near = self.device.ioctl(Request.BIND_UNBOUND_PORT, DOMID_SELF)
        self._far = self.device.ioctl(Request.BIND_INTERDOMAIN, DOMID_SELF, self._near)
        self._take()

    def pass_by(self) -> None:
        """Wait until everything that was sent so far has arrived."""
        self.device.ioctl(Request.NOTIFY, self._near)
        self._take()

    def _is_out_of_range(self, port: int) -> bool:
        return _outcome(lambda: self.device.ioctl(Request.UNBIND, port)) == "EINVAL"

    def _take(self) -> None:
        assert select.select([self.device], [], [], TIMEOUT)[0]
        assert unpack_ports(raw_read(self.device, 4096)) == [self._far]
        raw_write(self.device, pack_ports(self._far))


class Worlds:
    """Makes each step on both sides and compares what comes out; ports are numbered as real."""

    def __init__(self, fence: Fence) -> None:
        self._fence = fence
        self._xen = Hypervisor()
        self._files: list[File] = []
        self._fake_port: dict[int, int] = {}
        self._real_port: dict[int, int] = {}
        # A kernel never forgets how high a port it has seen: the fake's sees as high a one.
        with contextlib.closing(self._xen.dom0.device()) as device:
            device.ioctl(Request.BIND_STATIC, fence.channels - 1)
            device.ioctl(Request.UNBIND, fence.channels - 1)

    def close(self) -> None:
        """Close every file and check that the fake is clean."""
        for file in self._files:
            file.close()
        self._xen.check_clean()

    def step(self, operation: str, a: int, b: int, c: int) -> str:
        """Make a step, chosen by name and numbers; return what it was.

        Raises:
            AssertionError: the two sides answered differently.
        """
        if not self._files:
            self._open()
        file = self._files[a % len(self._files)]
        return f"file {a % len(self._files)}: {getattr(self, '_do_' + operation)(file, b, c)}"

    def _do_open(self, _file: File, _b: int, _c: int) -> str:
        if len(self._files) < MAX_FILES:
            self._open()
        return "open"

    def _do_close(self, file: File, _b: int, _c: int) -> str:
        self._files.remove(file)
        file.close()
        return "close"

    def _do_dup(self, file: File, _b: int, _c: int) -> str:
        if len(self._files) < MAX_FILES:
            real, fake = (
                adopt_device(os.dup(device.fileno())) for device in (file.real, file.fake)
            )
            real.own()
            fake.own()
            self._files.append(File(real, fake, file.ports))
        return "dup"

    def _do_bind_virq(self, file: File, b: int, _c: int) -> str:
        virq = VIRQS[b % len(VIRQS)]
        return self._bind(file, Request.BIND_VIRQ, virq)

    def _do_bind_unbound_port(self, file: File, b: int, _c: int) -> str:
        return self._bind(file, Request.BIND_UNBOUND_PORT, DOMIDS[b % len(DOMIDS)])

    def _do_bind_interdomain(self, file: File, b: int, c: int) -> str:
        # Mostly the two that can succeed.
        domid = DOMIDS[b % len(DOMIDS)] if b % 4 == 0 else DOMIDS[b % 2]
        port = self._port(c)
        shown = self._bind(file, Request.BIND_INTERDOMAIN, domid, port)
        self._fence.pass_by()
        return shown

    def _do_unbind(self, file: File, b: int, _c: int) -> str:
        port = self._port(b)
        outcome = self._request(file, Request.UNBIND, port)
        if outcome == 0:
            file.ports.discard(port)
        return f"unbind({port}) = {outcome}"

    def _do_notify(self, file: File, b: int, _c: int) -> str:
        port = self._port(b)
        outcome = self._request(file, Request.NOTIFY, port)
        self._fence.pass_by()
        return f"notify({port}) = {outcome}"

    def _do_reset(self, file: File, _b: int, _c: int) -> str:
        return f"reset = {self._request(file, Request.RESET)}"

    def _do_restrict(self, file: File, b: int, _c: int) -> str:
        domid = RESTRICTIONS[b % len(RESTRICTIONS)]
        outcome = self._request(file, Request.RESTRICT_DOMID, domid)
        return f"restrict_domid({domid}) = {outcome}"

    def _do_bind_static(self, file: File, b: int, c: int) -> str:
        """Only where it is safe: a port of the file, one out of range, or the free one."""
        choices = [131072, 2**32 - 1, *sorted(file.ports)]
        if not any(FREE_PORT in other.ports for other in self._files):
            choices.append(FREE_PORT)
        port = choices[(b + c) % len(choices)]
        if not HAS_STATIC:
            return "bind_static left out"
        return f"bind_static({port}) = {self._bind_static(file, port)}"

    def _do_read(self, file: File, b: int, _c: int) -> str:
        size = SIZES[b % len(SIZES)]
        return f"read({size}) = {self._both(file, lambda device: self._read(device, size))}"

    def _do_write(self, file: File, b: int, c: int) -> str:
        ports = [self._port(number) for number in (b, c, b ^ c, b + c)][: 1 + c % 4]
        ragged = b"\0" * (b % 4)

        def write(device: Device) -> int:
            data = bytes(pack_ports([self._on(device, port) for port in ports])) + ragged
            return raw_write(device, memoryview(data))

        outcome = self._both(file, write)
        self._fence.pass_by()
        return f"write({ports} and {len(ragged)} bytes) = {outcome}"

    def _do_poll(self, file: File, _b: int, _c: int) -> str:
        def poll(device: Device) -> int:
            # A fake's descriptor stays writable after an overflow, so that is not asked.
            poller = select.poll()
            poller.register(device, select.POLLIN)
            return dict(poller.poll(0)).get(device.fileno(), 0)

        return f"poll = {self._both(file, poll)}"

    def _do_churn(self, file: File, b: int, _c: int) -> str:
        """Leave stale entries in the ring, up to more than it holds."""
        for _ in range(b % 70):
            unbound = self._bind_or_none(file, Request.BIND_UNBOUND_PORT, DOMID_SELF)
            if unbound is None:
                break
            connected = self._bind_or_none(file, Request.BIND_INTERDOMAIN, DOMID_SELF, unbound)
            self._fence.pass_by()
            for port in (unbound, connected):
                if port is not None:
                    self._request(file, Request.UNBIND, port)
                    file.ports.discard(port)
        return f"churn {b % 70}"

    def _open(self) -> None:
        real = open_kernel(DEVICE_NODE, nonblocking=True, cloexec=True)
        self._files.append(File(real, self._xen.dom0.device()))

    def _port(self, number: int) -> int:
        known = list(self._fake_port)
        if known and number % 8:
            return known[number // 8 % len(known)]
        return STRANGERS[number // 8 % len(STRANGERS)]

    def _on(self, device: Device, port: int) -> int:
        """Return the port's number on the device's side."""
        return port if isinstance(device, KernelDevice) else self._fake_port.get(port, port)

    def _read(self, device: Device, size: int) -> list[int]:
        ports = unpack_ports(raw_read(device, size))
        if isinstance(device, KernelDevice):
            return ports
        return [self._real_port.get(port, port) for port in ports]

    def _bind(self, file: File, request: Request, *arguments: int) -> str:
        return f"{request}{arguments} = {self._bind_or_none(file, request, *arguments)}"

    def _bind_or_none(self, file: File, request: Request, *arguments: int) -> int | None:
        """Bind on both sides; return the real port, or None where both failed alike."""
        real, fake = (self._ioctl(device, request, arguments) for device in (file.real, file.fake))
        if isinstance(real, int) and isinstance(fake, int):
            # Both sides hand out their lowest free port: the correspondence never changes.
            assert self._fake_port.setdefault(real, fake) == fake
            assert self._real_port.setdefault(fake, real) == real
            file.ports.add(real)
            return real
        assert real == fake, f"{request}{arguments}: the driver {real}, the fake {fake}"
        return None

    def _bind_static(self, file: File, port: int) -> object:
        outcome = self._request(file, Request.BIND_STATIC, port)
        if outcome == 0:
            file.ports.add(port)
        return outcome

    def _request(self, file: File, request: Request, *arguments: int) -> object:
        return self._both(file, lambda device: self._ioctl(device, request, arguments))

    def _ioctl(self, device: Device, request: Request, arguments: tuple[int, ...]) -> object:
        own = [
            self._on(device, value) if name.endswith("port") else value
            for name, value in zip(request.parameters, arguments, strict=True)
        ]
        return _outcome(lambda: device.ioctl(request, *own))

    def _both(self, file: File, call: Callable[[Device], object]) -> object:
        real, fake = (_outcome(partial(call, device)) for device in (file.real, file.fake))
        assert real == fake, f"the driver answered {real}, the fake {fake}"
        return real


def _outcome(call: Callable[[], object]) -> object:
    """Return what a call returned, or the name of its errno."""
    try:
        return call()
    except OSError as error:
        return errno.errorcode[error.errno or 0]

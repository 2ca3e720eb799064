"""Options that configure a new fake hypervisor, and that name the socket of a served one."""

import functools
import os
import re
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import click

from ...fake import preload
from ...fake.hypervisor import Hypervisor
from ...fake.model.configuration import ABIS, DELIVERIES, MACHINES, POLICIES
from ...fake.names import PREFIX, parse
from ...fake.server.remote import RemoteHypervisor
from ...opening import DEVICE_VARIABLE
from ..options import F, named_device

if TYPE_CHECKING:
    VersionType = click.ParamType[tuple[int, int]]
else:  # click 8.2 has no generic types
    VersionType = click.ParamType


def socket_option(command: F) -> F:
    """Add ``--socket`` to a command."""
    return click.option(
        "--socket",
        "path",
        type=click.Path(),
        callback=_check_path,
        metavar="PATH",
        help=f"The server's socket [default: that of the device, if it is {PREFIX}unix:PATH].",
    )(command)


def on_server(command: Callable[..., None]) -> Callable[..., None]:
    """Add ``--socket`` to a command, which gets the server's hypervisor as first argument."""

    @functools.wraps(command)
    @click.pass_context
    def with_server(ctx: click.Context, /, *, path: str | None, **options: object) -> None:
        command(RemoteHypervisor(socket_path(ctx, path)), **options)

    return socket_option(with_server)


def socket_path(ctx: click.Context, path: str | None) -> str:
    """Return the socket that was named, or else that of the named device.

    Raises:
        click.UsageError: neither names a socket.
    """
    if path is not None:
        return path
    found = parse_device(named_device(ctx) or os.environ.get(preload.VARIABLE, ""))[0]
    if found is None:
        raise click.UsageError(
            f"name the server's socket: --socket PATH, or {DEVICE_VARIABLE}={PREFIX}unix:PATH", ctx
        )
    return found


def _check_path(ctx: click.Context, param: click.Parameter, path: str | None) -> str | None:
    # In a device's name, a question mark begins the domain.
    if path is not None and (not path or "?" in path):
        raise click.BadParameter(f"{path!r} cannot be the path of {PREFIX}unix:PATH", ctx, param)
    return path


def parse_device(device: str) -> tuple[str | None, int]:
    """Return the socket and the domid in a device's name; None and 0 if it has none."""
    return parse(device) if device.startswith(PREFIX) else (None, 0)


class Version(VersionType):
    """The first two numbers of a version."""

    name = "version"

    def convert(
        self, value: object, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[int, int]:
        """Return the two numbers."""
        if isinstance(value, tuple):
            return value  # click passes in a converted value
        match = re.fullmatch(r"([0-9]{1,3})\.([0-9]{1,3})", str(value))
        if not match:
            self.fail(f"{value!r} is not a version such as 6.12", param, ctx)
        return int(match[1]), int(match[2])


def hypervisor_options(command: Callable[..., None]) -> Callable[..., None]:
    """Add the options that configure a Hypervisor to a command, which gets it as ``hypervisor``."""

    @functools.wraps(command)
    def with_hypervisor(*arguments: object, **options: Any) -> None:  # noqa: ANN401 - click's
        configuration = {name: options.pop(name) for name in _ARGUMENTS}
        command(*arguments, hypervisor=Hypervisor(**configuration), **options)

    for option in reversed(_OPTIONS):
        with_hypervisor = option(with_hypervisor)
    return with_hypervisor


_ARGUMENTS = ("xen_version", "linux", "machine", "abi", "delivery", "seed", "xsm")


_OPTIONS = (
    click.option(
        "--xen",
        "xen_version",
        type=Version(),
        default="4.17",
        show_default=True,
        metavar="VERSION",
        help="Xen's version.",
    ),
    click.option(
        "--linux",
        type=Version(),
        default="6.1",
        show_default=True,
        metavar="VERSION",
        help="The version of every domain's Linux.",
    ),
    click.option(
        "--machine",
        type=click.Choice(MACHINES),
        default="pv",
        show_default=True,
        help="The kind of dom0, on which it depends what its kernel has bound.",
    ),
    click.option(
        "--abi",
        type=click.Choice(ABIS),
        default="fifo",
        show_default=True,
        help="Xen's event-channel ABI; 2l has 4096 ports.",
    ),
    click.option(
        "--delivery",
        type=click.Choice(DELIVERIES),
        default="immediate",
        show_default=True,
        help="When events are delivered: at once, by `fake deliver`, or at once in random order.",
    ),
    click.option(
        "--seed",
        type=click.IntRange(0),
        metavar="N",
        help="The seed of the random order [default: a new one, written to standard error].",
    ),
    click.option(
        "--xsm",
        type=click.Choice(POLICIES),
        default="dummy",
        show_default=True,
        help="Xen's policy: under silo, domains can connect only to dom0.",
    ),
)

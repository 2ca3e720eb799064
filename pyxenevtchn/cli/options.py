"""What the commands share: the types of options and arguments, and common options."""

import itertools
import os
import re
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click
from click.shell_completion import CompletionItem

from ..abi import DEFAULT_DEVICE, DOMID_SELF, UINT32_MAX, Virq, check_uint32
from ..opening import DEVICE_VARIABLE

if TYPE_CHECKING:
    NumberType = click.ParamType[int]
    TimeType = click.ParamType[float]
    AddressType = click.ParamType[tuple[int, int]]
else:  # click 8.2 has no generic types
    NumberType = TimeType = AddressType = click.ParamType

F = TypeVar("F", bound=Callable[..., Any])

# Devices of guests that this domain serves: TYPE-DOMID-NUMBER. Any user may list them.
_BACKENDS = Path("/sys/bus/xen-backend/devices")

# No useful time is longer, and every clock accepts it.
_SECONDS_MAX = 1e9


class VirqType(NumberType):
    """A VIRQ by name, or any number: the driver refuses numbers that Xen does not have."""

    name = "virq"

    def convert(
        self, value: object, param: click.Parameter | None, ctx: click.Context | None
    ) -> int:
        """Return the VIRQ's number."""
        text = str(value)
        try:
            if re.fullmatch("[0-9]{1,10}", text):
                return check_uint32("the VIRQ", int(text))
            return Virq.parse(text)
        except ValueError as error:
            self.fail(str(error), param, ctx)

    def shell_complete(
        self,
        ctx: click.Context,  # noqa: ARG002 - click's signature
        param: click.Parameter,  # noqa: ARG002
        incomplete: str,
    ) -> list[CompletionItem]:
        """Complete the names, in either case."""
        names = [name for name in Virq.__members__ if name.startswith(incomplete.upper())]
        lower = incomplete.islower()
        return [CompletionItem(name.lower() if lower else name) for name in names]


class DomidType(NumberType):
    """A domid, or ``self``."""

    name = "domid"

    def __init__(self, *, with_self: bool = True) -> None:
        self._with_self = with_self

    def convert(
        self, value: object, param: click.Parameter | None, ctx: click.Context | None
    ) -> int:
        """Return the domid's number."""
        domid = _domid(str(value))
        if domid is None or (domid == DOMID_SELF and not self._with_self):
            itself = ", or self for this domain" if self._with_self else ""
            self.fail(f"{value!r} is not a domid: 0 to {DOMID_SELF - 1}{itself}", param, ctx)
        return domid

    def shell_complete(
        self,
        ctx: click.Context,  # noqa: ARG002
        param: click.Parameter,  # noqa: ARG002
        incomplete: str,
    ) -> list[CompletionItem]:
        """Complete the domids that are known here."""
        texts = [*known_domids(), "self"] if self._with_self else known_domids()
        return [CompletionItem(text) for text in texts if text.startswith(incomplete)]


class Address(AddressType):
    """The other end of a connection: DOM:PORT."""

    name = "dom:port"

    def convert(
        self, value: object, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[int, int]:
        """Return the domid and the port."""
        if isinstance(value, tuple):
            return value  # click passes in a converted value
        domain, colon, port = str(value).rpartition(":")
        domid = _domid(domain)
        number = int(port) if re.fullmatch("[0-9]{1,10}", port) else UINT32_MAX + 1
        if domid is None or number > UINT32_MAX:
            self.fail(_address_advice(str(value), is_port=not colon), param, ctx)
        return domid, number

    def shell_complete(
        self,
        ctx: click.Context,  # noqa: ARG002
        param: click.Parameter,  # noqa: ARG002
        incomplete: str,
    ) -> list[CompletionItem]:
        """Complete the domid; the ports that it offers are not known."""
        addresses = [f"{text}:" for text in (*known_domids(), "self")]
        return [CompletionItem(text) for text in addresses if text.startswith(incomplete)]


class Seconds(TimeType):
    """A time in seconds."""

    name = "seconds"

    def convert(
        self, value: object, param: click.Parameter | None, ctx: click.Context | None
    ) -> float:
        """Return the seconds; refuse what is not a number or too large for a clock."""
        try:
            seconds = float(str(value))
        except ValueError:
            seconds = -1.0
        if not 0 <= seconds <= _SECONDS_MAX:
            self.fail(f"{value!r} is not a number of seconds, at least 0", param, ctx)
        return seconds


VIRQ, DOMID, ADDRESS, SECONDS = VirqType(), DomidType(), Address(), Seconds()
# For commands that do not run in a domain.
DOMAIN = DomidType(with_self=False)
STATIC_PORT = click.IntRange(1, UINT32_MAX)


def known_domids() -> list[str]:
    """Return the domids that are known without the toolstack: those of dom0 and of guests."""
    try:
        names = [path.name for path in _BACKENDS.iterdir()]
    except OSError:
        names = []
    found = {int(match[1]) for name in names if (match := re.match(r"[^-]+-(\d+)-", name))}
    return [str(domid) for domid in sorted({0, *found})]


def domid_name(domid: int) -> str:
    """Return a domid as the options take it."""
    return "self" if domid == DOMID_SELF else str(domid)


def is_fake(device: str) -> bool:
    """Return whether the device is a fake, by its name."""
    return device.startswith("fake:")


def examples(*lines: str) -> str:
    """Return a command's epilog with examples: each is what follows ``xenevtchn``."""
    title = "Examples:" if lines[1:] else "Example:"
    return "\n".join(["\b", title, *(f"  xenevtchn {line}" for line in lines)])


def device_option(command: F) -> F:
    """Add ``--device`` to a command, which gets the name of the device to open."""
    return click.option(
        "--device",
        metavar="DEVICE",
        callback=_resolve,
        help="The device to use; the same as --device before the command.",
    )(command)


def named_device(ctx: click.Context) -> str:
    """Return the device that the main command's option or the environment names, or ""."""
    return ctx.obj or os.environ.get(DEVICE_VARIABLE, "")


def count_option(command: F) -> F:
    """Add ``--count``, of events, to a command."""
    return click.option(
        "-n", "--count", type=click.IntRange(min=1), metavar="N", help="End after N events."
    )(command)


def timeout_option(command: F) -> F:
    """Add ``--timeout`` to a command."""
    return click.option(
        "-t", "--timeout", type=SECONDS, metavar="SECONDS", help="End after this time."
    )(command)


def interval_option(command: F) -> F:
    """Add ``--interval`` to a command that repeats something."""
    return click.option(
        "-i",
        "--interval",
        type=SECONDS,
        default=1.0,
        show_default=True,
        metavar="SECONDS",
        help="Wait this long between two of them.",
    )(command)


def turns(count: int | None, interval: float) -> Iterator[int]:
    """Yield 1, 2, ... up to a count, if there is one, and sleep for the interval between them."""
    yield 1
    for number in itertools.count(2) if count is None else range(2, count + 1):
        time.sleep(interval)
        yield number


def consent_option(command: F) -> F:
    """Add the flag that static ports need on a real device to a command."""
    return click.option(
        "--yes-this-port-is-mine",
        "consent",
        is_flag=True,
        help="Required by --static on a real device. A port that the kernel or another program"
        " uses makes the kernel oops or the machine hang: Linux does not check.",
    )(command)


def check_consent(ctx: click.Context, device: str, *, consent: bool) -> None:
    """Refuse a static port of a real device without the flag that says that it is the user's.

    Raises:
        click.UsageError: the flag is missing.
    """
    if not consent and not is_fake(device):
        raise click.UsageError(
            "--static needs --yes-this-port-is-mine on a real device: Linux does not check whose"
            " port it is, and one that the kernel or another program uses makes the kernel oops"
            " or the machine hang. Static ports are those of the domain's configuration.",
            ctx,
        )


def _resolve(ctx: click.Context, param: click.Parameter, value: str | None) -> str:  # noqa: ARG001
    return value or named_device(ctx) or DEFAULT_DEVICE


def _domid(text: str) -> int | None:
    if text == "self":
        return DOMID_SELF
    if re.fullmatch("[0-9]{1,5}", text) and int(text) <= DOMID_SELF:
        return int(text)
    return None


def _address_advice(text: str, *, is_port: bool) -> str:
    if is_port and text.isdecimal():
        return (
            f"{text!r} has no domain: name DOM:PORT. A port of this domain that another program"
            " holds cannot be used from here: use it in that program, or connect to the unbound"
            " port at the other end"
        )
    return f"{text!r} is not DOM:PORT, a domid or self and the port of that domain"

"""Wrong arguments are refused before any system call, and change nothing."""

from collections.abc import Callable

import pytest

from pyxenevtchn import EventChannel

CALLS: dict[str, Callable[[EventChannel, object], object]] = {
    "bind_virq": lambda channel, value: channel.bind_virq(value),  # type: ignore[arg-type]
    "bind_interdomain domain": lambda channel, value: channel.bind_interdomain(value, 1),  # type: ignore[arg-type]
    "bind_interdomain port": lambda channel, value: channel.bind_interdomain(0, value),  # type: ignore[arg-type]
    "bind_unbound_port": lambda channel, value: channel.bind_unbound_port(value),  # type: ignore[arg-type]
    "bind_static": lambda channel, value: channel.bind_static(value),  # type: ignore[arg-type]
    "unbind": lambda channel, value: channel.unbind(value),  # type: ignore[arg-type]
    "notify": lambda channel, value: channel.notify(value),  # type: ignore[arg-type]
    "restrict_domid": lambda channel, value: channel.restrict_domid(value),  # type: ignore[arg-type]
    "read": lambda channel, value: channel.read(value),  # type: ignore[arg-type]
    "unmask": lambda channel, value: channel.unmask(value),  # type: ignore[arg-type]
    "unmask many": lambda channel, value: channel.unmask([1, value]),  # type: ignore[list-item]
}


@pytest.mark.parametrize("name", CALLS)
@pytest.mark.parametrize("value", ["1", 1.0, None, b"\1"], ids=repr)
def test_an_argument_that_is_no_integer(channel: EventChannel, name: str, value: object) -> None:
    with pytest.raises(TypeError):
        CALLS[name](channel, value)
    assert not channel.bindings


@pytest.mark.parametrize("name", CALLS)
@pytest.mark.parametrize("value", [-1, 2**32, 10**30])
def test_an_integer_out_of_range(channel: EventChannel, name: str, value: int) -> None:
    with pytest.raises(ValueError, match=f"not {value}"):
        CALLS[name](channel, value)
    assert not channel.bindings


@pytest.mark.parametrize("domid", [0x10000, 0x10000 + 1, 2**32 - 1])
def test_domids_over_16_bits_are_not_cut(channel: EventChannel, domid: int) -> None:
    for call in ("bind_interdomain domain", "bind_unbound_port", "restrict_domid"):
        with pytest.raises(ValueError, match=f"dom.* must be 0 to 65535, not {domid}"):
            CALLS[call](channel, domid)
    assert not channel.bindings

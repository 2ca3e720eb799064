"""BIND_STATIC, as far as it is safe to test: never on a port that someone else owns."""

import errno
import platform

import pytest

from pyxenevtchn import DOMID_SELF, EventChannel

from .conftest import OpenChannel
from .events import Pair

# Free in any dom0 that runs no guests, and within both ABIs' limits.
FREE_PORT = 4000


@pytest.fixture
def has_static(backend: str) -> bool:
    """Whether this kernel has the request: Linux 6.6 and newer. The server's fake is a 6.1."""
    release = tuple(int(part) for part in platform.release().split("-")[0].split(".")[:2])
    return backend == "fake" or (backend == "real" and release >= (6, 6))


def test_a_static_port_is_taken_over_and_given_back(
    channel: EventChannel, has_static: bool
) -> None:
    if not has_static:
        with pytest.raises(OSError, match=f"bind_static.port={FREE_PORT}.") as caught:
            channel.bind_static(FREE_PORT)
        assert caught.value.errno == errno.ENOSYS
        assert "Linux 6.6" in caught.value.__notes__[0]
        assert not channel.bindings
        return
    channel.bind_static(FREE_PORT)
    assert list(channel.bindings) == [FREE_PORT]
    channel.notify(FREE_PORT)
    with pytest.raises(OSError, match="bind_static") as caught:
        channel.bind_static(FREE_PORT)
    assert caught.value.errno == errno.EISCONN
    channel.unbind(FREE_PORT)
    assert not channel.bindings


def test_a_port_of_the_same_handle(channel: EventChannel, has_static: bool) -> None:
    port = channel.bind_unbound_port(DOMID_SELF)
    with pytest.raises(OSError, match="bind_static") as caught:
        channel.bind_static(port)
    assert caught.value.errno == (errno.EISCONN if has_static else errno.ENOSYS)
    assert channel.bindings[port].remote_domain == DOMID_SELF


@pytest.mark.parametrize("port", [131072, 2**32 - 1])
def test_a_port_out_of_range(channel: EventChannel, has_static: bool, port: int) -> None:
    with pytest.raises(OSError, match="bind_static") as caught:
        channel.bind_static(port)
    assert caught.value.errno == (errno.ENOMEM if has_static else errno.ENOSYS)


def test_a_port_of_another_handle_of_the_process_never_reaches_the_kernel(
    pair: Pair, open_channel: OpenChannel
) -> None:
    with pytest.raises(OSError, match="another handle of this process") as caught:
        open_channel().bind_static(pair.near_port)
    assert caught.value.errno == errno.EBUSY

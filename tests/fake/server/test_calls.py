"""Calls on a file's connection: waiting, interrupted and undone ones."""

import errno
import socket

import pytest

from pyxenevtchn import EventChannel, Request, Virq
from pyxenevtchn.fake.server.protocol import (
    CALL,
    SIZE,
    STRUCTS,
    Call,
)

from ...limits import TIMEOUT
from .connections import answer_on, attach_again, call, number
from .process import ServerProcess


def test_the_events_of_an_interrupted_read_are_in_the_ring_again(server: ServerProcess) -> None:
    with EventChannel.open(server.name()) as channel:
        ports = [channel.bind_virq(virq) for virq in (Virq.DEBUG, Virq.ARGO)]
        for virq in (Virq.DEBUG, Virq.ARGO):
            server.xen.raise_virq(virq)
        with attach_again(server, channel.fileno()) as calls:
            calls.sendall(CALL.pack(Call.READ, 4) + SIZE.pack(4096))
            assert calls.recv(1, socket.MSG_PEEK)
            assert channel.poll(0) == 0
        assert channel.wait(TIMEOUT) == ports


def test_the_virq_of_an_interrupted_bind_is_free_again(server: ServerProcess) -> None:
    bind = number(Request.BIND_VIRQ), STRUCTS[Request.BIND_VIRQ].pack(Virq.DEBUG)
    with EventChannel.open(server.name()) as channel:
        with attach_again(server, channel.fileno()) as calls:
            calls.sendall(CALL.pack(bind[0], 4) + bind[1])
            assert calls.recv(1, socket.MSG_PEEK)
        assert channel.bind_virq(Virq.DEBUG)


def test_a_call_whose_answer_was_read_is_not_undone(server: ServerProcess) -> None:
    bind = number(Request.BIND_VIRQ), STRUCTS[Request.BIND_VIRQ].pack(Virq.DEBUG)
    with EventChannel.open(server.name()) as channel:
        with attach_again(server, channel.fileno()) as calls:
            assert call(calls, *bind)[0] > 0
        server.xen.raise_virq(Virq.DEBUG)
        with pytest.raises(FileExistsError):
            channel.bind_virq(Virq.DEBUG)
        with attach_again(server, channel.fileno()) as calls:
            assert call(calls, Call.READ, SIZE.pack(4096))[0] == 4
        assert channel.wait(0) == []


def test_a_wait_is_answered_when_an_event_comes(server: ServerProcess) -> None:
    with EventChannel.open(server.name()) as channel:
        port = channel.bind_virq(Virq.DEBUG)
        with (
            attach_again(server, channel.fileno()) as calls,
            attach_again(server, channel.fileno()) as given_up,
            attach_again(server, channel.fileno()) as later,
        ):
            for each in (given_up, calls, later):
                each.sendall(CALL.pack(Call.WAIT, 4) + SIZE.pack(4))
            given_up.close()
            server.xen.raise_virq(Virq.DEBUG)
            assert answer_on(calls) == (4, SIZE.pack(port))
            channel.unmask(port)
            server.xen.raise_virq(Virq.DEBUG)
            assert answer_on(later) == (4, SIZE.pack(port))
            # If there is an event already, the answer comes at once.
            channel.unmask(port)
            server.xen.raise_virq(Virq.DEBUG)
            assert call(later, Call.WAIT, SIZE.pack(4)) == (4, SIZE.pack(port))


def test_a_call_is_undone(server: ServerProcess) -> None:
    undone = (-errno.ECANCELED, b"")
    with (
        EventChannel.open(server.name()) as channel,
        attach_again(server, channel.fileno()) as calls,
    ):
        # There is nothing to undo, or a bind.
        assert call(calls, Call.UNDO) == undone
        assert call(calls, number(Request.BIND_VIRQ), SIZE.pack(Virq.DEBUG))[0] > 0
        assert call(calls, Call.UNDO) == undone
        assert call(calls, Call.UNDO) == undone
        port = channel.bind_virq(Virq.DEBUG)
        # A wait that is cancelled takes no later event.
        calls.sendall(CALL.pack(Call.WAIT, 4) + SIZE.pack(4))
        assert call(calls, Call.UNDO) == undone
        server.xen.raise_virq(Virq.DEBUG)
        assert call(calls, Call.READ, SIZE.pack(4)) == (4, SIZE.pack(port))
        assert call(calls, Call.UNDO) == undone
        assert channel.wait(0) == [port]


def test_a_wait_ends_with_its_domain(server: ServerProcess) -> None:
    domid = server.xen.create_domain()
    with (
        EventChannel.open(server.name(domid)) as channel,
        attach_again(server, channel.fileno()) as calls,
    ):
        calls.sendall(CALL.pack(Call.WAIT, 4) + SIZE.pack(4))
        server.xen.destroy_domain(domid)
        assert answer_on(calls) == (-errno.ENODEV, b"")
        assert call(calls, Call.EXPLAIN) == (0, b"domain %d was destroyed" % domid)

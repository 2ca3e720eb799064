"""The protocol of a server and its clients: lines of words, over a Unix stream socket.

A client sends a line, the server answers with a line, and so on. All of it is ASCII, except the
texts.

    ok [VALUE]            done
    error ERRNO [TEXT]    failed as the driver does; the text is a note on the error
    refused TEXT          the request makes no sense

A line that is malformed, too long or not allowed on this connection ends the connection without an
answer. Other connections go on.

Two lines tie a connection to a file of a domain's driver. The file's descriptor is sent with the
answer to the first, and with the second itself (SCM_RIGHTS):

    open DOMID            ok SPACE; the domain is created if there is none. The descriptor polls as
                          the file does. SPACE names the domain: equal for two files in one domain
    attach                no answer; the client sends the descriptor of the file

From then on the connection has calls of that file, one at a time, each answered before the next.
The file is closed when its descriptor and all duplicates of it are closed, in all processes: it
survives the process that opened it if another has a duplicate. The server keeps one itself only
while the file has connections.

A call is two 32-bit words, the call's number and the number of bytes that follow, and these bytes.
An answer too is two words, the result and the number of bytes that follow, and these bytes. All
words are in the machine's byte order. The result of a failed call is the negated errno, and no
bytes follow: the second word is the length of a note on the error, which the next call may ask for.
Two such results are not errnos: KERNEL_BUG, if a real kernel would have crashed
(failure.KernelBug), and REFUSED, if the call makes no sense.

    call                  bytes               result           bytes of the answer
    a request's number    its struct          the port, or 0
    READ                  most bytes          bytes read       the ports that have events
    WAIT                  most bytes          bytes read       the same, but waits for an event
    WRITE                 ports               bytes taken
    DOMID                                     the domid now    (a restored domain has a new one)
    EXPLAIN                                   0                the note on the call before
    UNDO                                      -ECANCELED
    CLOSE                                     none: the server ends the connection

A request's number is that of its ioctl, and its index in abi.Request. READ and WAIT take one 32-bit
word.

If a connection ends while an answer in it is unread, the server undoes that call: it unbinds the
port, or puts the events back in the ring. So a client whose call is interrupted, by an exception of
a signal handler, only closes the connection. UNDO undoes the last call, whether its answer was read
or not. It also cancels a WAIT that has no answer yet, and is the one call that may be sent then.

A client sends CLOSE after it has closed a descriptor. If that was the last one, the file is closed
when the connection ends; if the close was a kernel's bug, an answer that says so comes first, with
its note. A file that is closed without CLOSE was left open by its program.

Requests to the hypervisor (see hypervisor.Hypervisor and domain.Domain), on any connection that is
not about a file:

    configuration                      ok JSON: an object with the fields of Configuration
    raise_virq VIRQ [DOMID]            ok
    set_virq_handler VIRQ DOMID        ok
    deliver DOMID MOST STORM           ok COUNT; DOMID and MOST can be -, for all; STORM is 0 or 1
    ports DOMID                        ok JSON: an array of objects with the fields of ports.Port
    interrupts DOMID                   ok JSON: an array of arrays: a port that a client holds, the
                                       name of its program, and the number of its events
    create_domain DOMID MAX_PORTS      ok DOMID; DOMID can be -, for the next one
    connect_static DOMID PORT DOMID PORT    ok
    destroy_domain DOMID               ok; likewise pause_domain, unpause_domain, save_domain,
                                       checkpoint_domain, shutdown_domain
    crash_domain DOMID PRESERVE        ok; PRESERVE is 0 or 1
    restore_domain DOMID               ok DOMID: takes the old domid of a saved domain, returns the
                                       new one
    fail_next DOMID OPERATION ERRNO    ok
    check_clean                        ok

Numbers are decimal, of at most 32 bits.
"""

import contextlib
import enum
import errno
import os
import struct

from ...abi import Request
from ..model.driver import PAGE_BYTES
from ..model.failure import Refusal
from ..sockets import Socket

PAGE = PAGE_BYTES
"""The most bytes that one read or write takes."""

LINE_MAX = 256
"""The longest line that a client sends."""

CALL = struct.Struct("=II")
ANSWER = struct.Struct("=iI")
SIZE = struct.Struct("=I")

CALL_MAX = CALL.size + PAGE
"""The longest call, and the longest answer."""

REQUESTS = tuple(Request)
"""The requests, by their numbers."""

STRUCTS = {
    request: struct.Struct(
        "=H" if request is Request.RESTRICT_DOMID else f"={len(request.parameters)}I"
    )
    for request in Request
}
"""The requests' structs."""

NAME = b"xenevtchn-fake/"
"""How the names of descriptors begin, in the abstract namespace of Unix sockets."""


class Call(enum.IntEnum):
    """The numbers of the calls that are not requests of the driver."""

    READ = 16
    WAIT = 17
    WRITE = 18
    EXPLAIN = 20
    CLOSE = 21
    UNDO = 22
    DOMID = 23


KERNEL_BUG, REFUSED = 4096, 4097
"""The results of a failed call, negated, that are not errnos: the highest errno is 4095."""

# malloc takes this much from its heap; for more it would call the kernel each time.
_PIECE = 1 << 16

# The longest path in the kernel's struct sockaddr_un, before the zero at its end.
_PATH_MAX = 107


def socket_address(path: str) -> str:
    """Return the path, after a check of its length.

    Raises:
        OSError: ENAMETOOLONG.
    """
    if len(os.fsencode(path)) > _PATH_MAX:
        raise OSError(errno.ENAMETOOLONG, "longer than the path of a Unix socket can be", path)
    return path


def connect(path: str) -> Socket:
    """Connect to the server at ``path``.

    Raises:
        OSError: there is none, or it is another user's. The error does not have the path.
    """
    connection = Socket()
    try:
        connection.connect(socket_address(path))
    except BaseException as error:
        connection.close()
        if isinstance(error, FileNotFoundError | ConnectionRefusedError):
            error.add_note(f"is the server running? xenevtchn fake serve --socket {path}")
        raise
    return connection


def exchange(connection: Socket, line: str) -> bytes:
    """Send a line and return the answer.

    Args:
        connection: no other exchange may be under way on it. It cannot be used any more if this
            call is interrupted.
        line: without its newline.

    Raises:
        ConnectionError: the server has ended.
    """
    send(connection, line)
    answer = connection.recv(_PIECE)
    while not answer.endswith(b"\n"):
        more = connection.recv(_PIECE)
        if not more:
            raise server_gone()
        answer += more
    return answer


def send(connection: Socket, line: str) -> None:
    """Send a line. If the server has closed the connection, its answer or its end says so.

    A server that turns a client away sends the reason before it reads anything.
    """
    with contextlib.suppress(BrokenPipeError):
        connection.sendall(f"{line}\n".encode())


def server_gone() -> ConnectionError:
    """Return the error for a connection that has ended."""
    return ConnectionResetError(errno.ECONNRESET, os.strerror(errno.ECONNRESET))


def answer_value(answer: bytes) -> str:
    """Return the value of an answer.

    Raises:
        OSError: it is an error.
        ValueError: it is a refusal.
    """
    kind, _, rest = answer[:-1].decode().partition(" ")
    if kind == "ok":
        return rest
    if kind == "error":
        number, _, note = rest.partition(" ")
        raise failure(int(number), note)
    raise ValueError(rest)


def failure(number: int, note: str) -> Refusal:
    """Return the error of an errno, with a note unless that is empty.

    Raise the result at once: a local variable would make a reference cycle, which keeps the objects
    of all callers alive until it is collected.
    """
    error = Refusal(number, os.strerror(number))
    if note:
        error.add_note(note)
    return error

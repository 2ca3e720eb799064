"""What a server and its clients say to each other: words on lines, over a Unix stream socket.

A client sends a line, the server answers with a line, and so on; all of it is ASCII but the texts.

    ok [VALUE]            done
    error ERRNO [TEXT]    failed as the driver does; the text is a note on it
    refused TEXT          what was asked for makes no sense

What is no such line, is too long or asks for what is not there to be asked ends the connection
without an answer, and nothing else.

A file of a domain's driver is opened on a connection, or one that is open is found again, by its
descriptor. Its descriptor comes or goes along with the line (SCM_RIGHTS):

    open DOMID            ok SPACE; the domain is created if there is none. The descriptor polls as
                          the file does. SPACE names the domain: equal for two files whose ports
                          are those of one domain
    attach                no answer; the descriptor says about which file

What follows on such a connection is about that file: calls, one at a time, each answered before the
next. The file is closed once its descriptor and all duplicates are, wherever they are: it survives
the process that opened it if another has one. The server keeps one itself while there are
connections about the file, and no longer.

A call is two 32-bit words, what is called and how many bytes follow, and those; an answer is two as
well, the result and how many bytes follow. All of it is in the machine's order. A failed call's
result is the errno negated, and no bytes follow it: the second word says how long a note on it is,
which the next call may ask for. Two numbers there are no errnos: KERNEL_BUG, for what would have
been a bug of a real kernel (failure.KernelBug), and REFUSED, for what makes no sense.

    what                  bytes               result           bytes of the answer
    a request's number    its struct          the port, or 0
    READ                  how many at most    how many         the ports: as many as are there
    WAIT                  how many at most    how many         the same, but once some are there
    WRITE                 ports               how many bytes
    NOTIFY_MANY           ports               how many         the errno of the next port, or 0
    DOMID                                     the domid now    a restored domain has another
    EXPLAIN                                   0                the note on the call before
    UNDO                                      -ECANCELED
    CLOSE                                     the server ends the connection

A request's number is the one of its ioctl, and its place in abi.Request; what READ and WAIT take
is a 32-bit word.

A connection that ends while an answer lies unread in it takes back what that gave: ports are
unbound, and events are in the ring again. So a call can be given up in its midst, by an exception
of a signal handler, by closing its connection. UNDO takes back what the last answer gave, read or
not; and it gives up a WAIT, for it may be sent while that has no answer yet.

CLOSE is for those who have just closed a descriptor: when the connection ends, the file has been
closed, if that was the last one; where that was a kernel's bug, such an answer and its note come
before. A file that nobody has said this of was left open by its program.

And there is the hypervisor (see hypervisor.Hypervisor and domain.Domain), on any connection:

    configuration                      ok JSON: an object with the fields of Configuration
    raise_virq VIRQ [DOMID]            ok
    set_virq_handler VIRQ DOMID        ok
    deliver DOMID MOST STORM           ok COUNT; DOMID and MOST can be -, for all; STORM is 0 or 1
    ports DOMID                        ok JSON: an array of objects with the fields of ports.Port
    interrupts DOMID                   ok JSON: an array of arrays: a port that a client holds, the
                                       name of its program, and how many events it has had
    create_domain DOMID MAX_PORTS      ok DOMID; DOMID can be -, for the next one
    connect_static DOMID PORT DOMID PORT    ok
    destroy_domain DOMID               ok; likewise pause_domain, unpause_domain, save_domain,
                                       checkpoint_domain, shutdown_domain
    crash_domain DOMID PRESERVE        ok; PRESERVE is 0 or 1
    restore_domain DOMID               ok DOMID: of one that was saved, its old and its new one
    fail_next DOMID OPERATION ERRNO    ok
    check_clean                        ok

Numbers are decimal, of 32 bits at most.
"""

import contextlib
import enum
import errno
import os
import socket
import struct

from ...abi import Request
from ..model.driver import PAGE_BYTES

PAGE = PAGE_BYTES
"""The most bytes that one read, write or notify_many takes."""

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
"""What the name of a descriptor begins with, in the abstract namespace of Unix sockets."""


class Call(enum.IntEnum):
    """What is called, besides the requests."""

    READ = 16
    WAIT = 17
    WRITE = 18
    NOTIFY_MANY = 19
    EXPLAIN = 20
    CLOSE = 21
    UNDO = 22
    DOMID = 23


KERNEL_BUG, REFUSED = 4096, 4097
"""What a failed call's result can be besides an errno, of which the highest is 4095."""

# Malloc has this much at hand; what is larger it fetches from the kernel every time.
_PIECE = 1 << 16

# What fits into the kernel's struct sockaddr_un, with the zero at its end.
_PATH_MAX = 107


def socket_address(path: str) -> str:
    """Return a path that is one for sockets.

    Raises:
        OSError: ENAMETOOLONG.
    """
    if len(os.fsencode(path)) > _PATH_MAX:
        raise OSError(errno.ENAMETOOLONG, "longer than the path of a Unix socket can be", path)
    return path


def connect(path: str) -> socket.socket:
    """Connect to the server at ``path``.

    Raises:
        OSError: there is none, or it is somebody else's; without the path.
    """
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        # Whatever socket.setdefaulttimeout says.
        connection.settimeout(None)
        connection.connect(socket_address(path))
    except BaseException as error:
        connection.close()
        if isinstance(error, FileNotFoundError | ConnectionRefusedError):
            error.add_note(f"is the server running? xenevtchn fake serve --socket {path}")
        raise
    return connection


def exchange(connection: socket.socket, line: str) -> bytes:
    """Send a line and return the answer.

    Args:
        connection: nothing else is under way on it. Where this is interrupted it cannot be used
            any more.
        line: without its end.

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


def send(connection: socket.socket, line: str) -> None:
    """Send a line, or leave it to the answer to tell that nobody is there.

    A server that turns a client away says why before it has heard anything.
    """
    with contextlib.suppress(BrokenPipeError):
        connection.sendall(f"{line}\n".encode())


def server_gone() -> ConnectionError:
    """Make the error for a connection that has ended."""
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
        raise _error(rest)
    raise ValueError(rest)


def _error(text: str) -> OSError:
    # Not a local variable of whom raises it: that is a cycle, which keeps alive what every caller
    # has until it is collected.
    number, _, note = text.partition(" ")
    error = OSError(int(number), os.strerror(int(number)))
    if note:
        error.add_note(note)
    return error

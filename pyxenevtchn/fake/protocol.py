"""What a server and its clients say to each other: words on lines, over a Unix stream socket.

A client sends a line, the server answers with a line, and so on; all of it is ASCII but the texts.

    ok [VALUE]            done
    error ERRNO [TEXT]    failed as the driver does; the text is a note on it
    refused TEXT          what was asked for makes no sense

What is no such line, is too long or asks for what is not there to be asked ends the connection
without an answer, and nothing else.

A file of a domain's driver is opened on a connection of its own, and closed by its end, however
that comes. The server has closed the file before it closes its side.

    open DOMID            ok FILE SPACE; the domain is created if there is none. The descriptor
                          that polls comes along (SCM_RIGHTS). FILE names the file, SPACE the
                          domain: equal for two files whose ports are those of one domain

The file is used on any number of other connections, each for one call at a time.

    attach FILE           no answer; what follows is about this file
    REQUEST [NUMBER ...]  ok PORT, or ok 0: an ioctl, by the names of abi.Request, and the fields of
                          its struct
    notify_many HEX       ok SENT ERRNO: NOTIFY of each port; how many it was made of, and the errno
                          of the next one or 0
    read SIZE             ok HEX: as much as is there, never waiting
    write HEX             ok SIZE

A connection that ends while an answer lies unread in it takes back what that gave: ports are
unbound, and events are in the ring again. So a call can be given up in its midst, by a signal's
exception, by closing its connection.

And there is the hypervisor (see machine.Hypervisor and machine.Domain), on any connection:

    raise_virq VIRQ [DOMID]            ok
    ports DOMID                        ok JSON: an array of objects with the fields of machine.Port
    interrupts DOMID                   ok JSON: an array of arrays: a port that a client holds, the
                                       name of its program, and how many events it has had
    create_domain [DOMID]              ok DOMID
    destroy_domain DOMID               ok
    fail_next DOMID OPERATION ERRNO    ok
    check_clean                        ok

Numbers are decimal, of 32 bits at most. HEX is what the driver's read and write take, whole 32-bit
words in the machine's order, in hexadecimal; a page at most.
"""

import contextlib
import errno
import os
import socket

from .driver import PAGE_BYTES

PAGE = PAGE_BYTES
"""The most bytes that one read, write or notify_many takes."""

LINE_MAX = 2 * PAGE + 64
"""The longest line that a client sends, and the longest answer about a file."""

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
    answer = connection.recv(LINE_MAX)
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

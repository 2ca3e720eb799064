"""Builds pyxenevtchn._ffi: the requests of /dev/xen/evtchn, one C function each.

The structs are declared here and not taken from <xen/evtchn.h>, because distributions still ship
headers without BIND_STATIC (Linux 6.6), and many machines have none. Where there is one, the
compiler holds every number and size below against it, and a mismatch fails the build.
"""

from cffi import FFI

# Every request's function returns what ioctl(2) did: a port or 0, or -1 with errno set.
DECLARATIONS = """
#define IOCTL_BIND_VIRQ ...
#define IOCTL_BIND_INTERDOMAIN ...
#define IOCTL_BIND_UNBOUND_PORT ...
#define IOCTL_UNBIND ...
#define IOCTL_NOTIFY ...
#define IOCTL_RESET ...
#define IOCTL_RESTRICT_DOMID ...
#define IOCTL_BIND_STATIC ...

static int bind_virq(int fd, uint32_t virq);
static int bind_interdomain(int fd, uint32_t remote_domain, uint32_t remote_port);
static int bind_unbound_port(int fd, uint32_t remote_domain);
static int unbind(int fd, uint32_t port);
static int notify(int fd, uint32_t port);
static int reset(int fd);
static int restrict_domid(int fd, uint16_t domid);
static int bind_static(int fd, uint32_t port);

static long notify_many(int fd, const uint32_t *ports, long count);
static long take(int fd, int wake, int64_t timeout, uint32_t *page, long room);
"""

SOURCE = """
#define _GNU_SOURCE
#include <errno.h>
#include <poll.h>
#include <stdint.h>
#include <sys/ioctl.h>
#include <time.h>
#include <unistd.h>

struct virq_argument { uint32_t virq; };
struct interdomain_argument { uint32_t remote_domain, remote_port; };
struct unbound_port_argument { uint32_t remote_domain; };
struct port_argument { uint32_t port; };
struct domid_argument { uint16_t domid; };

#define REQUEST(number, size) _IOC(_IOC_NONE, 'E', number, size)
#define IOCTL_BIND_VIRQ         REQUEST(0, sizeof(struct virq_argument))
#define IOCTL_BIND_INTERDOMAIN  REQUEST(1, sizeof(struct interdomain_argument))
#define IOCTL_BIND_UNBOUND_PORT REQUEST(2, sizeof(struct unbound_port_argument))
#define IOCTL_UNBIND            REQUEST(3, sizeof(struct port_argument))
#define IOCTL_NOTIFY            REQUEST(4, sizeof(struct port_argument))
#define IOCTL_RESET             REQUEST(5, 0)
#define IOCTL_RESTRICT_DOMID    REQUEST(6, sizeof(struct domid_argument))
#define IOCTL_BIND_STATIC       REQUEST(7, sizeof(struct port_argument))

#if __has_include(<xen/evtchn.h>)
/* The header uses domid_t and leaves it to its includer to define. */
typedef uint16_t domid_t;
#include <xen/evtchn.h>

#define SAME(request, structure, theirs)                                                \\
    _Static_assert(IOCTL_##request == IOCTL_EVTCHN_##request, #request);                \\
    _Static_assert(sizeof(struct structure) == sizeof(struct theirs), #structure)
SAME(BIND_VIRQ, virq_argument, ioctl_evtchn_bind_virq);
SAME(BIND_INTERDOMAIN, interdomain_argument, ioctl_evtchn_bind_interdomain);
SAME(BIND_UNBOUND_PORT, unbound_port_argument, ioctl_evtchn_bind_unbound_port);
SAME(UNBIND, port_argument, ioctl_evtchn_unbind);
SAME(NOTIFY, port_argument, ioctl_evtchn_notify);
SAME(RESTRICT_DOMID, domid_argument, ioctl_evtchn_restrict_domid);
_Static_assert(IOCTL_RESET == IOCTL_EVTCHN_RESET, "RESET");
#ifdef IOCTL_EVTCHN_BIND_STATIC
SAME(BIND_STATIC, port_argument, ioctl_evtchn_bind);
#endif
#endif

static int bind_virq(int fd, uint32_t virq)
{
    struct virq_argument argument = { virq };
    return ioctl(fd, IOCTL_BIND_VIRQ, &argument);
}

static int bind_interdomain(int fd, uint32_t remote_domain, uint32_t remote_port)
{
    struct interdomain_argument argument = { remote_domain, remote_port };
    return ioctl(fd, IOCTL_BIND_INTERDOMAIN, &argument);
}

static int bind_unbound_port(int fd, uint32_t remote_domain)
{
    struct unbound_port_argument argument = { remote_domain };
    return ioctl(fd, IOCTL_BIND_UNBOUND_PORT, &argument);
}

static int unbind(int fd, uint32_t port)
{
    struct port_argument argument = { port };
    return ioctl(fd, IOCTL_UNBIND, &argument);
}

static int notify(int fd, uint32_t port)
{
    struct port_argument argument = { port };
    return ioctl(fd, IOCTL_NOTIFY, &argument);
}

static int reset(int fd)
{
    return ioctl(fd, IOCTL_RESET, 0);
}

static int restrict_domid(int fd, uint16_t domid)
{
    struct domid_argument argument = { domid };
    return ioctl(fd, IOCTL_RESTRICT_DOMID, &argument);
}

static int bind_static(int fd, uint32_t port)
{
    struct port_argument argument = { port };
    return ioctl(fd, IOCTL_BIND_STATIC, &argument);
}
"""

# No requests of the driver's, but several system calls in one call from Python.
#
# notify_many: NOTIFY for each port until one fails; returns how many were sent, with errno set
# where those are not all.
#
# take: read what is pending on a descriptor that does not block; where nothing is, wait until it is
# or ``wake`` can be read, at most ``timeout`` nanoseconds (negative: for ever). Returns how many
# ports were read, -1 with errno set, or 0: the time is over, or it is worth a look why not. The
# page's first word says it too, for a caller whom an exception has kept from hearing it; the ports
# come after it.
BATCH = """
static long notify_many(int fd, const uint32_t *ports, long count)
{
    long sent = 0;
    while (sent < count && notify(fd, ports[sent]) == 0)
        sent++;
    return sent;
}

static long read_page(int fd, uint32_t *page, long room)
{
    ssize_t size = read(fd, page + 1, room * sizeof(*page));
    long count = size < 0 ? 0 : size / sizeof(*page);
    page[0] = count;
    return size < 0 && errno != EAGAIN ? -1 : count;
}

static long take(int fd, int wake, int64_t timeout, uint32_t *page, long room)
{
    /* Read first: in a burst something is always there, and poll would be one system call more. */
    long count = read_page(fd, page, room);
    if (count != 0 || timeout == 0)
        return count;
    struct pollfd either[] = { { fd, POLLIN, 0 }, { wake, POLLIN, 0 } };
    struct timespec most = { timeout / 1000000000, timeout % 1000000000 };
    if (ppoll(either, 2, timeout < 0 ? NULL : &most, NULL) < 0)
        return errno == EINTR ? 0 : -1;
    return either[0].revents ? read_page(fd, page, room) : 0;
}
"""

ffibuilder = FFI()
ffibuilder.cdef(DECLARATIONS)
ffibuilder.set_source("pyxenevtchn._ffi", SOURCE + BATCH)

if __name__ == "__main__":
    ffibuilder.compile(verbose=True)

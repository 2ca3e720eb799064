"""Build pyxenevtchn._ffi: one C function for each request of /dev/xen/evtchn, and a hypercall.

The structs are declared here and not taken from <xen/evtchn.h>: distributions still ship headers
without BIND_STATIC (Linux 6.6), and many machines do not have the header. If it exists, the
compiler checks every number and size below against it, and a mismatch fails the build.
"""

from cffi import FFI

# Each function returns its result, such as a port or 0; or a negated errno.
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

static int64_t notify_many(int fd, const uint32_t *ports, long count);
static int unmask(int fd, const char *ports, size_t size);
static int unmask_one(int fd, uint32_t port);
static int turn(int fd, int wake, uint32_t *page, uint32_t room, int64_t left, uint32_t port);
static int wait_readable(int fd, int wake, uint32_t *page, uint32_t room, int64_t left,
                         uint32_t port);
static int read_readable(int fd, uint32_t *page, uint32_t room);

static int watch_clock(int fd);
static int port_status(int privcmd, uint16_t domid, uint32_t first, uint32_t *words, uint32_t room);
"""

SOURCE = """
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/timerfd.h>
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
/* The header uses domid_t but does not define it. */
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

static int request(int fd, unsigned long number, void *argument)
{
    int result = ioctl(fd, number, argument);
    return result < 0 ? -errno : result;
}

static int bind_virq(int fd, uint32_t virq)
{
    struct virq_argument argument = { virq };
    return request(fd, IOCTL_BIND_VIRQ, &argument);
}

static int bind_interdomain(int fd, uint32_t remote_domain, uint32_t remote_port)
{
    struct interdomain_argument argument = { remote_domain, remote_port };
    return request(fd, IOCTL_BIND_INTERDOMAIN, &argument);
}

static int bind_unbound_port(int fd, uint32_t remote_domain)
{
    struct unbound_port_argument argument = { remote_domain };
    return request(fd, IOCTL_BIND_UNBOUND_PORT, &argument);
}

static int unbind(int fd, uint32_t port)
{
    struct port_argument argument = { port };
    return request(fd, IOCTL_UNBIND, &argument);
}

static int notify(int fd, uint32_t port)
{
    struct port_argument argument = { port };
    return request(fd, IOCTL_NOTIFY, &argument);
}

static int reset(int fd)
{
    return request(fd, IOCTL_RESET, 0);
}

static int restrict_domid(int fd, uint16_t domid)
{
    struct domid_argument argument = { domid };
    return request(fd, IOCTL_RESTRICT_DOMID, &argument);
}

static int bind_static(int fd, uint32_t port)
{
    struct port_argument argument = { port };
    return request(fd, IOCTL_BIND_STATIC, &argument);
}
"""

# Not single requests, but several system calls in one call from Python.
#
# notify_many: make NOTIFY for each port until one fails. Returns how many were sent; the upper 32
# bits are the errno of the port that failed.
#
# unmask: write all ports; the driver accepts one page per write. unmask_one: write one port.
#
# turn: see device.Device. Each step is recorded in the page as it is made: if a signal handler
# raises, only the returned result is lost. wait_readable and read_readable are the two halves of
# turn for a blocking descriptor.
BATCH = """
struct page {
    int64_t left;
    uint32_t unread, done;
    uint32_t ports[];
};

static int64_t notify_many(int fd, const uint32_t *ports, long count)
{
    for (long sent = 0; sent < count; sent++) {
        int result = notify(fd, ports[sent]);
        if (result < 0)
            return (int64_t)-result << 32 | sent;
    }
    return count;
}

static int unmask(int fd, const char *ports, size_t size)
{
    while (size > 0) {
        ssize_t done = write(fd, ports, size);
        if (done < 0)
            return -errno;
        ports += done;
        size -= done;
    }
    return 0;
}

static int unmask_one(int fd, uint32_t port)
{
    return write(fd, &port, sizeof(port)) < 0 ? -errno : 0;
}

/* Port 0 means no port. */
static int unmask_done(int fd, struct page *page, uint32_t port)
{
    if (port && unmask_one(fd, port) < 0)
        return -errno;
    if (page->done && write(fd, page->ports, page->done * sizeof(*page->ports)) < 0)
        return -errno;
    page->done = 0;
    return 0;
}

static int read_ports(int fd, struct page *page, uint32_t room)
{
    ssize_t size = read(fd, page->ports, room * sizeof(*page->ports));
    if (size < 0)
        return -errno;
    return page->unread = size / sizeof(*page->ports);
}

/* Returns 1 if fd is readable; otherwise as turn. */
static int wait_for(int fd, int wake, struct page *page, int64_t left)
{
    struct pollfd either[] = { { fd, POLLIN, 0 }, { wake, POLLIN, 0 } };
    struct timespec most, before, after;
    if (left > 0) {
        most = (struct timespec){ left / 1000000000, left % 1000000000 };
        clock_gettime(CLOCK_MONOTONIC, &before);
    }
    int ready = ppoll(either, 2, left < 0 ? NULL : &most, NULL);
    int error = errno;
    if (left > 0) {
        clock_gettime(CLOCK_MONOTONIC, &after);
        left -= (after.tv_sec - before.tv_sec) * 1000000000LL + after.tv_nsec - before.tv_nsec;
        left = left > 0 ? left : 0;
    }
    page->left = left;
    if (ready < 0)
        return -error;
    return ready == 0 ? 0 : either[0].revents ? 1 : -EAGAIN;
}

static int turn(int fd, int wake, uint32_t *words, uint32_t room, int64_t left, uint32_t port)
{
    struct page *page = (struct page *)words;
    int result = unmask_done(fd, page, port);
    if (result < 0 || room == 0)
        return result;
    /* Read first: in a burst, events are always pending, and poll would be an extra system call. */
    result = read_ports(fd, page, room);
    if (result != -EAGAIN)
        return result;
    if (left == 0)
        return 0;
    result = wait_for(fd, wake, page, left);
    return result == 1 ? read_ports(fd, page, room) : result;
}

static int read_readable(int fd, uint32_t *words, uint32_t room)
{
    struct pollfd only = { fd, POLLIN, 0 };
    /* Another reader may have taken the events. */
    return poll(&only, 1, 0) > 0 ? read_ports(fd, (struct page *)words, room) : -EAGAIN;
}

static int wait_readable(int fd, int wake, uint32_t *words, uint32_t room, int64_t left,
                         uint32_t port)
{
    struct page *page = (struct page *)words;
    int result = unmask_done(fd, page, port);
    if (result < 0 || room == 0)
        return result;
    if (left != 0)
        return wait_for(fd, wake, page, left);
    page->left = 0;
    struct pollfd only = { fd, POLLIN, 0 };
    return poll(&only, 1, 0) > 0;
}
"""

# watch_clock: replace fd with a timer that never expires and becomes readable (ECANCELED) when the
# clock is set. Python has no timerfd before 3.13. The caller already owns the number fd, so no
# signal handler can run between creating the timer and owning it.
CLOCK = """
static int watch_clock(int fd)
{
    struct itimerspec never = { .it_value.tv_sec = LONG_MAX };
    int timer = timerfd_create(CLOCK_REALTIME, TFD_NONBLOCK | TFD_CLOEXEC);
    if (timer < 0)
        return -errno;
    int result = 0;
    if (timerfd_settime(timer, TFD_TIMER_ABSTIME | TFD_TIMER_CANCEL_ON_SET, &never, NULL) < 0
        || dup3(timer, fd, O_CLOEXEC) < 0)
        result = -errno;
    close(timer);
    return result;
}
"""

# port_status: make EVTCHNOP_status for the ports of a domain, from the given first one to its last.
# Writes four words for each: state, vCPU, and two for what it is bound to. Returns how many ports.
#
# Xen reads and writes the argument by its address, so its page must not move: a page of
# /dev/xen/hypercall does not. Linux before 4.18 does not have that device.
HYPERCALL = """
struct hypercall { uint64_t number, arguments[5]; };

#define IOCTL_HYPERCALL _IOC(_IOC_NONE, 'P', 0, sizeof(struct hypercall))

enum { EVENT_CHANNEL_OP = 32, STATUS = 5 };
enum { CLOSED, UNBOUND, INTERDOMAIN, PIRQ, VIRQ, IPI, XEN };

struct status_argument {
    uint16_t domid;
    uint32_t port;
    uint32_t state, vcpu;
    union {
        struct { uint16_t domid; uint32_t port; } remote;
        uint32_t number;
    };
};
_Static_assert(sizeof(struct status_argument) == 24, "evtchn_status");

static void *map_argument(void)
{
    int protection = PROT_READ | PROT_WRITE;
    int fd = open("/dev/xen/hypercall", O_RDWR | O_CLOEXEC);
    if (fd < 0)
        return mmap(NULL, sizeof(struct status_argument), protection,
                    MAP_SHARED | MAP_ANONYMOUS | MAP_LOCKED | MAP_POPULATE, -1, 0);
    void *page = mmap(NULL, sizeof(struct status_argument), protection, MAP_SHARED, fd, 0);
    int error = errno;
    close(fd);
    errno = error;
    return page;
}

static int port_status(int privcmd, uint16_t domid, uint32_t first, uint32_t *words, uint32_t room)
{
    struct status_argument *status = map_argument();
    if (status == MAP_FAILED)
        return -errno;
    struct hypercall call = { EVENT_CHANNEL_OP, { STATUS, (uintptr_t)status } };
    int error = 0;
    uint32_t done = 0;
    for (; done < room; done++, words += 4) {
        *status = (struct status_argument){ .domid = domid, .port = first + done };
        int result = request(privcmd, IOCTL_HYPERCALL, &call);
        if (result == -EINVAL)
            break;
        /* EACCES means that Xen itself consumes the port's events. Port 0 is never allocated: for
         * it, EACCES comes from Xen's policy. */
        if (result == -EACCES && status->port != 0)
            status->state = XEN;
        else if (result < 0) {
            error = result;
            break;
        }
        bool is_remote = status->state == UNBOUND || status->state == INTERDOMAIN;
        words[0] = status->state;
        words[1] = status->vcpu;
        words[2] = is_remote ? status->remote.domid : status->number;
        words[3] = is_remote ? status->remote.port : 0;
    }
    munmap(status, sizeof(struct status_argument));
    return error ? error : (int)done;
}
"""

ffibuilder = FFI()
ffibuilder.cdef(DECLARATIONS)
ffibuilder.set_source("pyxenevtchn._ffi", SOURCE + BATCH + CLOCK + HYPERCALL)

if __name__ == "__main__":
    ffibuilder.compile(verbose=True)

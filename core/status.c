/* A domain's port table, from Xen.
 *
 * Xen reads and writes the argument by its address, so its page must not move: a page of
 * /dev/xen/hypercall does not. Linux before 4.18 does not have that device. */
#define _GNU_SOURCE
#include "status.h"

#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

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

int port_status(int privcmd, uint16_t domid, uint32_t first, uint32_t *words, uint32_t room)
{
    struct status_argument *status = map_argument();
    if (status == MAP_FAILED)
        return -errno;
    struct hypercall call = { EVENT_CHANNEL_OP, { STATUS, (uintptr_t)status } };
    int error = 0;
    uint32_t done = 0;
    for (; done < room; done++, words += 4) {
        *status = (struct status_argument){ .domid = domid, .port = first + done };
        int result = ioctl(privcmd, IOCTL_HYPERCALL, &call) < 0 ? -errno : 0;
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

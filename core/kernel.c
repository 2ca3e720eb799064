/* The kernel's driver, /dev/xen/evtchn. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "device.h"
#include "evtchn.h"

static const unsigned long numbers[] = {
    [BIND_VIRQ] = IOCTL_EVTCHN_BIND_VIRQ,
    [BIND_INTERDOMAIN] = IOCTL_EVTCHN_BIND_INTERDOMAIN,
    [BIND_UNBOUND_PORT] = IOCTL_EVTCHN_BIND_UNBOUND_PORT,
    [UNBIND] = IOCTL_EVTCHN_UNBIND,
    [NOTIFY] = IOCTL_EVTCHN_NOTIFY,
    [RESET] = IOCTL_EVTCHN_RESET,
    [RESTRICT_DOMID] = IOCTL_EVTCHN_RESTRICT_DOMID,
    [BIND_STATIC] = IOCTL_EVTCHN_BIND_STATIC,
};

static int64_t kernel_request(uintptr_t file, uint32_t number, uint32_t first, uint32_t second)
{
    /* Every request's struct begins with 32-bit words, but for one. */
    struct ioctl_evtchn_bind_interdomain words = { first, second };
    struct ioctl_evtchn_restrict_domid domid = { first };
    void *argument = number == RESTRICT_DOMID ? (void *)&domid : &words;
    int result = ioctl(file, numbers[number], argument);
    return result < 0 ? -errno : result;
}

static int kernel_read(uintptr_t file, uint32_t *ports, uint32_t room)
{
    ssize_t size = read(file, ports, room * sizeof *ports);
    return size < 0 ? -errno : (int)(size / sizeof *ports);
}

static int kernel_write(uintptr_t file, const uint32_t *ports, uint32_t count)
{
    return write(file, ports, count * sizeof *ports) < 0 ? -errno : 0;
}

static int kernel_release(uintptr_t file, bool owned)
{
    if (owned)
        close(file);
    return 0;
}

static const struct driver kernel = { kernel_request, kernel_read, kernel_write, kernel_release };

/* Only the driver answers ENOTCONN to a notification of port 0, which no handle can have. */
static int check(int fd)
{
    struct stat status;
    if (fstat(fd, &status) < 0)
        return -errno;
    if (!S_ISCHR(status.st_mode))
        return -ENOTTY;
    int64_t result = kernel_request(fd, NOTIFY, 0, 0);
    return result == -ENOTTY || result == -EINVAL ? -ENOTTY : 0;
}

int device_open(struct device *device, const char *path, int flags)
{
    int fd = open(path, flags);
    if (fd < 0)
        return -errno;
    int result = check(fd);
    if (result < 0)
        close(fd);
    else
        *device = (struct device){ &kernel, fd, fd, true };
    return result;
}

int device_adopt(struct device *device, int fd)
{
    int result = check(fd);
    if (result < 0)
        return result;
    int flags = fcntl(fd, F_GETFL);
    if (flags < 0 || (!(flags & O_NONBLOCK) && fcntl(fd, F_SETFL, flags | O_NONBLOCK) < 0))
        return -errno;
    *device = (struct device){ &kernel, fd, fd, false };
    return 0;
}

/* A stand-in for the driver, without a kernel, to count what a loop does in user space.
 *
 * It is preloaded. Opening the device opens /dev/random, which epoll accepts and which is always
 * readable. The pairs are 1 and 2, 3 and 4, ...; events come at once, and ports are never masked.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdint.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/types.h>
#include <unistd.h>

enum { BIND_INTERDOMAIN = 1, UNBIND = 3, NOTIFY = 4, MOST = 4096 };

static int device = -1;
static uint32_t pending[MOST];
static size_t count;
static int last_port;

int open(const char *path, int flags, ...)
{
    va_list rest;
    va_start(rest, flags);
    int mode = va_arg(rest, int);
    va_end(rest);
    if (strcmp(path, "/dev/xen/evtchn"))
        return syscall(SYS_openat, AT_FDCWD, path, flags, mode);
    return device = syscall(SYS_openat, AT_FDCWD, "/dev/random", flags, mode);
}

int open64(const char *path, int flags, ...) __attribute__((alias("open")));

/* _FORTIFY_SOURCE turns open into this. */
int __open_2(const char *path, int flags)
{
    return open(path, flags, 0);
}

static int put(uint32_t port)
{
    if (count == MOST) {
        errno = EFBIG;
        return -1;
    }
    pending[count++] = port;
    return 0;
}

int ioctl(int fd, unsigned long request, ...)
{
    va_list rest;
    va_start(rest, request);
    uint32_t *argument = va_arg(rest, uint32_t *);
    va_end(rest);
    if (fd != device || (request >> 8 & 0xff) != 'E')
        return syscall(SYS_ioctl, fd, request, argument);
    switch (request & 0xff) {
    case NOTIFY:
        return put(*argument % 2 ? *argument + 1 : *argument - 1);
    case UNBIND:
        return 0;
    case BIND_INTERDOMAIN:
        put(last_port + 1);
        /* fall through */
    default:
        return ++last_port;
    }
}

ssize_t read(int fd, void *buffer, size_t size)
{
    if (fd != device)
        return syscall(SYS_read, fd, buffer, size);
    if (!count) {
        errno = EAGAIN;
        return -1;
    }
    size_t some = size / sizeof(*pending) < count ? size / sizeof(*pending) : count;
    memcpy(buffer, pending, some * sizeof(*pending));
    memmove(pending, pending + some, (count - some) * sizeof(*pending));
    count -= some;
    return some * sizeof(*pending);
}

ssize_t write(int fd, const void *buffer, size_t size)
{
    return fd == device ? (ssize_t)size : syscall(SYS_write, fd, buffer, size);
}

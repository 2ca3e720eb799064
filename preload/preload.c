/* /dev/xen/evtchn for any program that this is preloaded into: calls for that path and for its
 * descriptors go to the fake, all others to the C library. */
#define _GNU_SOURCE
#undef _FORTIFY_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdarg.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>

#include "fake.h"
#include "next.h"

int __open_2(const char *, int);
int __open64_2(const char *, int);
int __openat_2(int, const char *, int);
int __openat64_2(int, const char *, int);
ssize_t __read_chk(int, void *, size_t, size_t);

/* -- open ------------------------------------------------------------------------------------- */

#define TAKE_MODE(flags)                                                                           \
    mode_t mode = 0;                                                                               \
    if (__OPEN_NEEDS_MODE(flags)) {                                                                \
        va_list rest;                                                                              \
        va_start(rest, flags);                                                                     \
        mode = va_arg(rest, mode_t);                                                               \
        va_end(rest);                                                                              \
    }

/* No privcmd: its hypercalls would go to the machine's own Xen, if any, and not to the fake's. */
#define OPENED(path, flags, by_next)                                                               \
    (is_device(path) ? fake_open(flags) : is_privcmd(path) ? (errno = ENOENT, -1) : (by_next))

#define OPEN(name)                                                                                 \
    EXPORT int name(const char *path, int flags, ...)                                              \
    {                                                                                              \
        TAKE_MODE(flags)                                                                           \
        return OPENED(path, flags, NEXT(name)(path, flags, mode));                                 \
    }
#define OPENAT(name)                                                                               \
    EXPORT int name(int at, const char *path, int flags, ...)                                      \
    {                                                                                              \
        TAKE_MODE(flags)                                                                           \
        return OPENED(path, flags, NEXT(name)(at, path, flags, mode));                             \
    }
/* Programs that are compiled with _FORTIFY_SOURCE call these if they give no mode. */
#define OPEN_2(name)                                                                               \
    EXPORT int name(const char *path, int flags)                                                   \
    {                                                                                              \
        return OPENED(path, flags, NEXT(name)(path, flags));                                       \
    }
#define OPENAT_2(name)                                                                             \
    EXPORT int name(int at, const char *path, int flags)                                           \
    {                                                                                              \
        return OPENED(path, flags, NEXT(name)(at, path, flags));                                   \
    }

OPEN(open)
OPEN(open64)
OPENAT(openat)
OPENAT(openat64)
OPEN_2(__open_2)
OPEN_2(__open64_2)
OPENAT_2(__openat_2)
OPENAT_2(__openat64_2)

/* -- calls on a descriptor -------------------------------------------------------------------- */

EXPORT int ioctl(int fd, unsigned long request, ...)
{
    va_list rest;
    va_start(rest, request);
    void *argument = va_arg(rest, void *);
    va_end(rest);
    /* Linux handles these itself, for every kind of descriptor. */
    bool general =
        request == FIOCLEX || request == FIONCLEX || request == FIONBIO || request == FIOASYNC;
    fake_file file = general ? 0 : fake_of(fd);
    return file ? fake_ioctl(file, fd, request, argument) : NEXT(ioctl)(fd, request, argument);
}

EXPORT ssize_t read(int fd, void *buffer, size_t size)
{
    fake_file file = fake_of(fd);
    return file ? fake_read(file, fd, buffer, size) : NEXT(read)(fd, buffer, size);
}

EXPORT ssize_t __read_chk(int fd, void *buffer, size_t size, size_t room)
{
    fake_file file = fake_of(fd);
    return file && size <= room ? fake_read(file, fd, buffer, size)
                                : NEXT(__read_chk)(fd, buffer, size, room);
}

EXPORT ssize_t write(int fd, const void *buffer, size_t size)
{
    fake_file file = fake_of(fd);
    return file ? fake_write(file, fd, buffer, size) : NEXT(write)(fd, buffer, size);
}

/* A driver without operations for several pieces gets them from Linux one by one, until one is
 * taken only in part. */
#define PIECES(name, one)                                                                          \
    EXPORT ssize_t name(int fd, const struct iovec *pieces, int count)                             \
    {                                                                                              \
        fake_file file = fake_of(fd);                                                              \
        if (!file || count < 0 || count > IOV_MAX)                                                 \
            return NEXT(name)(fd, pieces, count);                                                  \
        ssize_t whole = 0;                                                                         \
        for (int i = 0; i < count; i++) {                                                          \
            ssize_t some = one(file, fd, pieces[i].iov_base, pieces[i].iov_len);                   \
            if (some < 0)                                                                          \
                return whole ? whole : -1;                                                         \
            whole += some;                                                                         \
            if ((size_t)some < pieces[i].iov_len)                                                  \
                break;                                                                             \
        }                                                                                          \
        return whole;                                                                              \
    }

PIECES(readv, fake_read)
PIECES(writev, fake_write)

/* -- how descriptors are made and closed ------------------------------------------------------ */

static int came_from(int fd, int duplicate)
{
    if (duplicate >= 0 && fake_of(fd))
        fake_came(duplicate);
    return duplicate;
}

EXPORT int dup(int fd)
{
    return came_from(fd, NEXT(dup)(fd));
}

EXPORT int dup2(int fd, int over)
{
    fake_file file = fd == over ? 0 : fake_of(over);
    if (!file)
        return came_from(fd, NEXT(dup2)(fd, over));
    struct line line = fake_closing(file, over);
    int result = came_from(fd, NEXT(dup2)(fd, over));
    fake_closed(file, line);
    return result;
}

EXPORT int dup3(int fd, int over, int flags)
{
    fake_file file = fd == over ? 0 : fake_of(over);
    if (!file)
        return came_from(fd, NEXT(dup3)(fd, over, flags));
    struct line line = fake_closing(file, over);
    int result = came_from(fd, NEXT(dup3)(fd, over, flags));
    fake_closed(file, line);
    return result;
}

#define FCNTL(name)                                                                                \
    EXPORT int name(int fd, int command, ...)                                                      \
    {                                                                                              \
        va_list rest;                                                                              \
        va_start(rest, command);                                                                   \
        void *argument = va_arg(rest, void *);                                                     \
        va_end(rest);                                                                              \
        int result = NEXT(name)(fd, command, argument);                                            \
        return command == F_DUPFD || command == F_DUPFD_CLOEXEC ? came_from(fd, result) : result;  \
    }

FCNTL(fcntl)
FCNTL(fcntl64)

static void came_with(struct msghdr *message)
{
    for (struct cmsghdr *header = CMSG_FIRSTHDR(message); header;
         header = CMSG_NXTHDR(message, header)) {
        if (header->cmsg_level != SOL_SOCKET || header->cmsg_type != SCM_RIGHTS)
            continue;
        size_t count = (header->cmsg_len - CMSG_LEN(0)) / sizeof(int);
        for (size_t i = 0; i < count; i++) {
            int fd;
            memcpy(&fd, CMSG_DATA(header) + i * sizeof fd, sizeof fd);
            fake_came(fd);
        }
    }
}

EXPORT ssize_t recvmsg(int fd, struct msghdr *message, int flags)
{
    ssize_t result = NEXT(recvmsg)(fd, message, flags);
    if (result >= 0)
        came_with(message);
    return result;
}

EXPORT int recvmmsg(int fd, struct mmsghdr *messages, unsigned count, int flags,
                    struct timespec *timeout)
{
    int result = NEXT(recvmmsg)(fd, messages, count, flags, timeout);
    for (int i = 0; i < result; i++)
        came_with(&messages[i].msg_hdr);
    return result;
}

EXPORT int close(int fd)
{
    fake_file file = fake_of(fd);
    if (!file)
        return NEXT(close)(fd);
    struct line line = fake_closing(file, fd);
    int result = NEXT(close)(fd);
    fake_closed(file, line);
    return result;
}

EXPORT int close_range(unsigned first, unsigned last, int flags)
{
    if (!(flags & CLOSE_RANGE_CLOEXEC))
        fake_closing_many();
    return NEXT(close_range)(first, last, flags);
}

EXPORT void closefrom(int first)
{
    fake_closing_many();
    NEXT(closefrom)(first);
}

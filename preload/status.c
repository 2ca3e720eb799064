/* The status of the path and of its descriptors: a character device. */
#define _GNU_SOURCE
#undef _FORTIFY_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "fake.h"
#include "next.h"

int __xstat(int, const char *, struct stat *);
int __xstat64(int, const char *, struct stat64 *);
int __lxstat(int, const char *, struct stat *);
int __lxstat64(int, const char *, struct stat64 *);
int __fxstat(int, int, struct stat *);
int __fxstat64(int, int, struct stat64 *);
int __fxstatat(int, int, const char *, struct stat *, int);
int __fxstatat64(int, int, const char *, struct stat64 *, int);

#define ACCESS(name)                                                                               \
    EXPORT int name(const char *path, int mode)                                                    \
    {                                                                                              \
        return is_device(path) ? may(mode) : NEXT(name)(path, mode);                               \
    }

static int may(int mode)
{
    if (!(mode & X_OK))
        return 0;
    errno = EACCES;
    return -1;
}

ACCESS(access)
ACCESS(euidaccess)
ACCESS(eaccess)

EXPORT int faccessat(int at, const char *path, int mode, int flags)
{
    return is_device(path) ? may(mode) : NEXT(faccessat)(at, path, mode, flags);
}

/* The type and number of the device; the rest of a descriptor's status is that of its socket. */
#define LOOK(status) ((status)->st_mode = S_IFCHR | 0600, (status)->st_rdev = makedev(10, 63))

#define FILL(status)                                                                               \
    (memset(status, 0, sizeof *(status)), (status)->st_nlink = 1, (status)->st_uid = geteuid(),    \
     (status)->st_gid = getegid(), LOOK(status), 0)

#define STAT(name, kind)                                                                           \
    EXPORT int name(const char *path, struct kind *status)                                         \
    {                                                                                              \
        return is_device(path) ? FILL(status) : NEXT(name)(path, status);                          \
    }
#define FSTAT(name, kind)                                                                          \
    EXPORT int name(int fd, struct kind *status)                                                   \
    {                                                                                              \
        int result = NEXT(name)(fd, status);                                                       \
        if (result == 0 && fake_of(fd))                                                            \
            LOOK(status);                                                                          \
        return result;                                                                             \
    }
#define FSTATAT(name, kind)                                                                        \
    EXPORT int name(int at, const char *path, struct kind *status, int flags)                      \
    {                                                                                              \
        if (is_device(path))                                                                       \
            return FILL(status);                                                                   \
        int result = NEXT(name)(at, path, status, flags);                                          \
        if (result == 0 && is_empty(path) && fake_of(at))                                          \
            LOOK(status);                                                                          \
        return result;                                                                             \
    }
/* Programs that were compiled with a C library older than 2.33 call these. */
#define XSTAT(name, kind)                                                                          \
    EXPORT int name(int version, const char *path, struct kind *status)                            \
    {                                                                                              \
        return is_device(path) ? FILL(status) : NEXT(name)(version, path, status);                 \
    }
#define FXSTAT(name, kind)                                                                         \
    EXPORT int name(int version, int fd, struct kind *status)                                      \
    {                                                                                              \
        int result = NEXT(name)(version, fd, status);                                              \
        if (result == 0 && fake_of(fd))                                                            \
            LOOK(status);                                                                          \
        return result;                                                                             \
    }
#define FXSTATAT(name, kind)                                                                       \
    EXPORT int name(int version, int at, const char *path, struct kind *status, int flags)         \
    {                                                                                              \
        return is_device(path) ? FILL(status) : NEXT(name)(version, at, path, status, flags);      \
    }

static bool is_empty(const char *path)
{
    return path && !*path;
}

STAT(stat, stat)
STAT(stat64, stat64)
STAT(lstat, stat)
STAT(lstat64, stat64)
FSTAT(fstat, stat)
FSTAT(fstat64, stat64)
FSTATAT(fstatat, stat)
FSTATAT(fstatat64, stat64)
XSTAT(__xstat, stat)
XSTAT(__xstat64, stat64)
XSTAT(__lxstat, stat)
XSTAT(__lxstat64, stat64)
FXSTAT(__fxstat, stat)
FXSTAT(__fxstat64, stat64)
FXSTATAT(__fxstatat, stat)
FXSTATAT(__fxstatat64, stat64)

EXPORT int statx(int at, const char *path, int flags, unsigned mask, struct statx *status)
{
    bool path_is = is_device(path);
    if (path_is)
        *status = (struct statx){ .stx_mask = mask & STATX_BASIC_STATS, .stx_nlink = 1,
                                  .stx_uid = geteuid(), .stx_gid = getegid() };
    else if (NEXT(statx)(at, path, flags, mask, status) < 0)
        return -1;
    if (path_is || (is_empty(path) && fake_of(at))) {
        status->stx_mode = S_IFCHR | 0600;
        status->stx_rdev_major = 10;
        status->stx_rdev_minor = 63;
    }
    return 0;
}

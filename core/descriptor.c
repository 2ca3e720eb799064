#define _GNU_SOURCE
#include "descriptor.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <sys/eventfd.h>
#include <sys/timerfd.h>
#include <time.h>
#include <unistd.h>

static int own(struct descriptor *descriptor, int fd)
{
    descriptor->fd = fd;
    return fd < 0 ? -errno : 0;
}

int descriptor_open(struct descriptor *descriptor, const char *path, int flags)
{
    return own(descriptor, open(path, flags));
}

int descriptor_duplicate(struct descriptor *descriptor, int fd, bool cloexec)
{
    return own(descriptor, fcntl(fd, cloexec ? F_DUPFD_CLOEXEC : F_DUPFD, 0));
}

int descriptor_eventfd(struct descriptor *descriptor)
{
    return own(descriptor, eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC));
}

int descriptor_clock(struct descriptor *descriptor)
{
    struct itimerspec never = { .it_value.tv_sec = LONG_MAX };
    int result = own(descriptor, timerfd_create(CLOCK_REALTIME, TFD_NONBLOCK | TFD_CLOEXEC));
    if (result < 0)
        return result;
    int flags = TFD_TIMER_ABSTIME | TFD_TIMER_CANCEL_ON_SET;
    return timerfd_settime(descriptor->fd, flags, &never, NULL) < 0 ? -errno : 0;
}

void descriptor_close(struct descriptor *descriptor)
{
    if (descriptor->fd >= 0)
        close(descriptor->fd);
    descriptor->fd = -1;
}

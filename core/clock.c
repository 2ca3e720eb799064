/* A timer that never expires and becomes readable (ECANCELED) when the clock is set. Python has no
 * timerfd before 3.13. */
#define _GNU_SOURCE
#include "clock.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <sys/timerfd.h>
#include <time.h>
#include <unistd.h>

int watch_clock(int fd)
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

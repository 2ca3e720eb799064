/* A descriptor that is owned before it is open: so it does not leak, wherever a signal handler of
 * Python raises. Each function but the last opens one, and returns 0 or a negated errno. */
#ifndef DESCRIPTOR_H
#define DESCRIPTOR_H

#include <stdbool.h>

struct descriptor {
    int fd; /* -1: none */
};

int descriptor_open(struct descriptor *descriptor, const char *path, int flags);
int descriptor_duplicate(struct descriptor *descriptor, int fd, bool cloexec);
/* An eventfd, nonblocking. */
int descriptor_eventfd(struct descriptor *descriptor);
/* A timer that never expires, and becomes readable (ECANCELED) when the clock is set. Python has no
 * timerfd before 3.13. */
int descriptor_clock(struct descriptor *descriptor);
void descriptor_close(struct descriptor *descriptor);

#endif

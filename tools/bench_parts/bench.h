/* Shared by the benchmarks' programs. */
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

/* DOMID_SELF. */
#define SELF 0x7FF0

/* The time, in nanoseconds. */
static long long now(void)
{
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return time.tv_sec * 1000000000LL + time.tv_nsec;
}

/* Exit with errno's message, unless it is ok. */
static void need(int ok, const char *what)
{
    if (!ok) {
        perror(what);
        exit(1);
    }
}

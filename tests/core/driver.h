/* A driver without a kernel: ports in pairs, 1 and 2, 3 and 4, ... that notify each other; each is
 * masked by its event, and the event of a masked port is pending. */
#ifndef DRIVER_H
#define DRIVER_H

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include "handle.h"

#define NEED(condition) \
    do { \
        if (!(condition)) { \
            fprintf(stderr, "%s:%d: %s\n", __FILE__, __LINE__, #condition); \
            abort(); \
        } \
    } while (0)

enum { MOST_PORTS = 512 };

struct file {
    pthread_mutex_t lock;
    int fd; /* an eventfd: readable while the ring has events */
    bool bound[MOST_PORTS], masked[MOST_PORTS], pending[MOST_PORTS];
    uint32_t ring[MOST_PORTS], count;
    int calls;    /* under way */
    int released; /* how often */
    void (*during)(struct file *); /* called in every request, without the lock */
};

struct file *file_open(void);
void file_free(struct file *file);
/* Have a handle take over a device of the file. */
void attach(struct handle *handle, struct file *file);

struct test {
    const char *name;
    void (*run)(void);
};
#define CASE(name) { #name, name }

int run_case(const struct test *tests, int argc, char **argv);
void start(pthread_t *thread, void *(*run)(void *), void *argument);
void end(pthread_t thread);

#endif

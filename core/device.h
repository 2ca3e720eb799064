/* A device: an open file of the driver, and the functions that use it. */
#ifndef DEVICE_H
#define DEVICE_H

#include <stdbool.h>
#include <stdint.h>

/* The most ports that the driver reads or writes in one call: a page of the smallest kind. */
enum { PAGE_PORTS = 1024 };

/* What a function returns besides a negated errno. */
enum {
    RAISED = -1001,    /* a driver in Python raised an exception, which is kept */
    CLOSED = -1002,    /* the handle, or the device, is closed */
    CLOSED_MEANWHILE = -1003, /* the handle was closed while the call waited */
    STALE = -1004,     /* the handle is stale */
    INHERITED = -1005, /* the handle belongs to the parent process */
    HAS_VIRQ = -1006,  /* a port to notify is bound to a VIRQ */
    HELD = -1007,      /* another handle of this process holds the port */
};

/* The driver's file operations. `file` is what the driver calls the file: for the kernel its
 * descriptor. A result is a negated errno or RAISED, or else at least 0. The requests are numbered
 * as in <xen/evtchn.h>; the arguments are the fields of a request's struct. */
struct driver {
    int64_t (*request)(uintptr_t file, uint32_t number, uint32_t first, uint32_t second);
    /* Never waits. Returns how many ports there were; -EAGAIN for none. */
    int (*read)(uintptr_t file, uint32_t *ports, uint32_t room);
    int (*write)(uintptr_t file, const uint32_t *ports, uint32_t count);
    /* Closes the descriptor, if it is owned. Returns 0 or RAISED. */
    int (*release)(uintptr_t file, bool owned);
};

enum {
    BIND_VIRQ,
    BIND_INTERDOMAIN,
    BIND_UNBOUND_PORT,
    UNBIND,
    NOTIFY,
    RESET,
    RESTRICT_DOMID,
    BIND_STATIC,
};

struct device {
    const struct driver *driver; /* NULL: closed, or taken by a handle */
    uintptr_t file;
    int fd; /* polls as the driver's does */
    bool owned;
};

/* Open the kernel's device. Returns 0, or a negated errno; -ENOTTY for what is no such device. */
int device_open(struct device *device, const char *path, int flags);

/* Use a descriptor of the kernel's device, which still belongs to the caller. It becomes
 * nonblocking: a read that waits in the driver could not be ended. */
int device_adopt(struct device *device, int fd);

int64_t device_request(struct device *device, uint32_t number, uint32_t first, uint32_t second);

/* Returns 0 or RAISED. */
int device_release(struct device *device);

/* A device whose driver is in Python. */
void device_python(struct device *device, uintptr_t file, int fd);
/* The interpreter is about to end: no driver in Python is called any more. */
void device_end_python(void);

#endif

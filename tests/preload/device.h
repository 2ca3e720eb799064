/* The device, for programs that have neither libxenevtchn nor the kernel's headers. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#define DEVICE "/dev/xen/evtchn"
#define SELF 0x7FF0
#define VIRQ_DEBUG 1

#define BIND_VIRQ _IOC(_IOC_NONE, 'E', 0, 4)
#define BIND_INTERDOMAIN _IOC(_IOC_NONE, 'E', 1, 8)
#define BIND_UNBOUND_PORT _IOC(_IOC_NONE, 'E', 2, 4)
#define UNBIND _IOC(_IOC_NONE, 'E', 3, 4)
#define NOTIFY _IOC(_IOC_NONE, 'E', 4, 4)
#define RESET _IOC(_IOC_NONE, 'E', 5, 0)
#define RESTRICT_DOMID _IOC(_IOC_NONE, 'E', 6, 2)

#define NEED(what)                                                                                 \
    do {                                                                                           \
        errno = 0;                                                                                 \
        if (!(what)) {                                                                             \
            fprintf(stderr, "%s:%d: failed: %s (%s)\n", __FILE__, __LINE__, #what,                 \
                    strerror(errno));                                                              \
            _exit(1);                                                                              \
        }                                                                                          \
    } while (0)

/* Two connected ports of two handles, and nothing pending. */
struct pair {
    int near, far;
    uint32_t near_port, far_port;
};

static inline int open_device(int flags)
{
    int fd = open(DEVICE, O_RDWR | flags);
    NEED(fd >= 0);
    return fd;
}

static inline int request(int fd, unsigned long number, uint32_t word)
{
    return ioctl(fd, number, &word);
}

static inline void notify(int fd, uint32_t port)
{
    NEED(request(fd, NOTIFY, port) == 0);
}

static inline uint32_t take(int fd)
{
    uint32_t port;
    NEED(read(fd, &port, sizeof port) == sizeof port);
    return port;
}

static inline void unmask(int fd, uint32_t port)
{
    NEED(write(fd, &port, sizeof port) == sizeof port);
}

static inline int poll_of(int fd, int timeout)
{
    struct pollfd one = { fd, POLLIN | POLLOUT, 0 };
    NEED(poll(&one, 1, timeout) >= 0);
    return one.revents;
}

static inline struct pair connect_pair(int near, int far)
{
    struct pair pair = { .near = near, .far = far };
    int port = request(near, BIND_UNBOUND_PORT, SELF);
    NEED(port > 0);
    pair.near_port = port;
    uint32_t other[] = { SELF, port };
    port = ioctl(far, BIND_INTERDOMAIN, other);
    NEED(port > 0);
    pair.far_port = port;
    NEED(take(far) == pair.far_port); /* from Xen, at the connection */
    unmask(far, pair.far_port);
    return pair;
}

static inline struct pair open_pair(int flags)
{
    int near = open_device(flags);
    return connect_pair(near, open_device(flags));
}

static inline void close_pair(struct pair pair)
{
    NEED(close(pair.near) == 0);
    NEED(close(pair.far) == 0);
}

/* Returns whether nobody has bound the VIRQ. */
static inline int virq_is_free(void)
{
    int fd = open_device(0);
    int port = request(fd, BIND_VIRQ, VIRQ_DEBUG);
    int number = errno;
    close(fd);
    NEED(port > 0 || number == EEXIST);
    return port > 0;
}

static inline int open_with_virq(void)
{
    int fd = open_device(0);
    NEED(request(fd, BIND_VIRQ, VIRQ_DEBUG) > 0);
    return fd;
}

/* A case of a program, which runs the one that its argument names. */
struct test {
    const char *name;
    void (*run)(void);
};

#define CASE(name) { #name, name }

static inline int run_case(const struct test *cases, size_t count, const char *name)
{
    for (size_t i = 0; i < count; i++)
        if (!strcmp(cases[i].name, name))
            return cases[i].run(), 0;
    return 2;
}

#define _GNU_SOURCE
#include "lines.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "protocol.h"

#define VARIABLE "XENEVTCHN_FAKE"

enum {
    /* Connections have numbers from here on, as programs may rely on the numbers of their files. */
    HIGH = 512,
    /* The places: a table of sets, by file, with a few places in each. */
    SETS = 256,
    WAYS = 4,
};

struct place {
    /* The file, the flags and the connection's number; 0 if the place is free. */
    _Atomic uint64_t held;
    /* Identifies the connection's socket: the program may have closed its number and reused it. */
    _Atomic uint64_t cookie;
};

static const uint64_t CLAIMED = 1, BUSY = 1 << 30, DOOMED = 1u << 31;
static struct place places[SETS][WAYS];

static _Atomic pid_t owner;

bool lines_are_ours(void)
{
    return owner == getpid();
}

static int number_of(uint64_t held)
{
    return held & (BUSY - 1);
}

static uint64_t cookie_of(int fd)
{
    uint64_t cookie = 0;
    socklen_t length = sizeof cookie;
    getsockopt(fd, SOL_SOCKET, SO_COOKIE, &cookie, &length);
    return cookie;
}

/* A forked child shares its parent's files, as with the driver, but has its own connections. */
static void disown(void)
{
    owner = getpid();
    for (int i = 0; i < SETS * WAYS; i++) {
        struct place *place = &places[i / WAYS][i % WAYS];
        uint64_t held = atomic_exchange(&place->held, 0);
        if (held > CLAIMED && cookie_of(number_of(held)) == place->cookie)
            close(number_of(held));
    }
}

__attribute__((constructor)) static void own(void)
{
    owner = getpid();
    pthread_atfork(NULL, NULL, disown);
}

static const char *device_name(void)
{
    static const char prefix[] = "fake:unix:";
    const char *name = getenv(VARIABLE);
    return name && !strncmp(name, prefix, sizeof prefix - 1) ? name + sizeof prefix - 1 : NULL;
}

bool lines_wanted(void)
{
    return device_name() != NULL;
}

static int find_server(struct sockaddr_un *address, unsigned *domid)
{
    const char *path = device_name();
    size_t length = path ? strcspn(path, "?") : 0;
    *domid = 0;
    if (!path || length >= sizeof address->sun_path ||
        (path[length] && sscanf(path + length, "?domid=%u", domid) != 1)) {
        errno = EINVAL;
        return -1;
    }
    *address = (struct sockaddr_un){ .sun_family = AF_UNIX };
    memcpy(address->sun_path, path, length);
    return 0;
}

int line_connect(unsigned *domid)
{
    struct sockaddr_un address;
    if (find_server(&address, domid) < 0)
        return -1;
    int low = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (low < 0)
        return -1;
    int fd = fcntl(low, F_DUPFD_CLOEXEC, HIGH);
    if (fd < 0)
        fd = low;
    else
        close(low);
    while (connect(fd, (struct sockaddr *)&address, sizeof address) < 0) {
        if (errno == EINTR)
            continue;
        int number = errno;
        close(fd);
        errno = number;
        return -1;
    }
    return fd;
}

struct line line_settle(fake_file file, int fd)
{
    struct line line = { fd, NULL };
    for (int way = 0; fd >= 0 && lines_are_ours() && way < WAYS; way++) {
        struct place *place = &places[file % SETS][way];
        uint64_t empty = 0;
        if (atomic_compare_exchange_strong(&place->held, &empty, CLAIMED)) {
            place->cookie = cookie_of(fd);
            place->held = (uint64_t)file << 32 | BUSY | fd;
            line.place = place;
            break;
        }
    }
    return line;
}

fake_file line_file_of(int fd)
{
    static const char prefix[] = "xenevtchn-fake/";
    struct sockaddr_un name = { 0 };
    socklen_t length = sizeof name - 1;
    if (getsockname(fd, (struct sockaddr *)&name, &length) < 0 || name.sun_family != AF_UNIX ||
        memcmp(name.sun_path + 1, prefix, sizeof prefix - 1))
        return 0;
    return strtoul(name.sun_path + sizeof prefix, NULL, 16);
}

/* Makes a connection about the file of the descriptor. */
static struct line attach(fake_file file, int fd)
{
    unsigned domid;
    struct line line = line_settle(file, line_connect(&domid));
    if (line.fd < 0)
        return line;
    union {
        struct cmsghdr header;
        char bytes[CMSG_SPACE(sizeof fd)];
    } control = { 0 };
    struct iovec text = { "attach\n", 7 };
    struct msghdr message = {
        .msg_iov = &text,
        .msg_iovlen = 1,
        .msg_control = control.bytes,
        .msg_controllen = sizeof control.bytes,
    };
    control.header.cmsg_level = SOL_SOCKET;
    control.header.cmsg_type = SCM_RIGHTS;
    control.header.cmsg_len = CMSG_LEN(sizeof fd);
    memcpy(CMSG_DATA(&control.header), &fd, sizeof fd);
    while (sendmsg(line.fd, &message, MSG_NOSIGNAL) < 0 && errno == EINTR)
        ;
    if (line_file_of(fd) == file)
        return line;
    /* Another thread has closed the descriptor, before or after it was sent. */
    line_end(line);
    errno = EBADF;
    return (struct line){ -1, NULL };
}

/* Takes an idle connection about the file, if there is one. */
static struct line take_idle(fake_file file)
{
    for (int way = 0; lines_are_ours() && way < WAYS; way++) {
        struct place *place = &places[file % SETS][way];
        uint64_t held = place->held;
        int fd = number_of(held);
        if (held >> 32 != file || held & BUSY ||
            !atomic_compare_exchange_strong(&place->held, &held, held | BUSY))
            continue;
        if (cookie_of(fd) == place->cookie)
            return (struct line){ fd, place };
        place->held = 0;
    }
    return (struct line){ -1, NULL };
}

struct line line_take(fake_file file, int fd)
{
    struct line line = take_idle(file);
    return line.fd < 0 ? attach(file, fd) : line;
}

void line_hang_up(struct line line)
{
    int number = errno;
    if (line.place)
        line.place->held = 0;
    if (line.fd >= 0)
        close(line.fd);
    errno = number;
}

void line_end(struct line line)
{
    struct call call = { CALL_CLOSE, 0 };
    char none;
    while (send(line.fd, &call, sizeof call, MSG_NOSIGNAL) < 0 && errno == EINTR)
        ;
    while (recv(line.fd, &none, 1, 0) < 0 && errno == EINTR)
        ;
    line_hang_up(line);
}

void line_give_back(fake_file file, int fd, struct line line)
{
    uint64_t busy = (uint64_t)file << 32 | BUSY | line.fd;
    if (!line.place && line_file_of(fd) == file)
        line_hang_up(line);
    else if (!line.place)
        line_end(line); /* another thread has closed the descriptor */
    else if (!atomic_compare_exchange_strong(&line.place->held, &busy, busy & ~BUSY))
        line_end(line); /* doomed */
}

static void end_set(struct place *set, fake_file file)
{
    for (int way = 0; way < WAYS; way++) {
        struct place *place = &set[way];
        uint64_t held = place->held;
        while (held > CLAIMED && (!file || held >> 32 == file)) {
            bool idle = !(held & BUSY);
            if (!atomic_compare_exchange_strong(&place->held, &held, held | (idle ? BUSY : DOOMED)))
                continue;
            if (idle && cookie_of(number_of(held)) == place->cookie)
                line_end((struct line){ number_of(held), place });
            else if (idle)
                place->held = 0;
            break;
        }
    }
}

void lines_end(fake_file file)
{
    if (file)
        end_set(places[file % SETS], file);
    else
        for (int set = 0; set < SETS; set++)
            end_set(places[set], 0);
}

#define _GNU_SOURCE
#include "fake.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "lines.h"
#include "protocol.h"

/* Lower descriptors are examined once; higher ones, which are rare, at every call. */
enum { MANY = 1 << 16 };

/* -- descriptors ------------------------------------------------------------------------------ */

enum { UNKNOWN, OTHER, OURS };
static _Atomic unsigned char seen[MANY];

/* In the server itself, which made it, the descriptor is an ordinary socket. */
static bool is_servers_own(int fd)
{
    struct ucred server;
    socklen_t length = sizeof server;
    return getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &server, &length) == 0 &&
           server.pid == getpid();
}

fake_file fake_of(int fd)
{
    bool known = fd >= 0 && fd < MANY;
    unsigned char before = known ? atomic_load_explicit(&seen[fd], memory_order_relaxed) : UNKNOWN;
    if (fd < 0 || before == OTHER)
        return 0;
    int number = errno;
    errno = 0;
    fake_file file = line_file_of(fd);
    if (file && before == UNKNOWN && is_servers_own(fd))
        file = 0;
    if (known && before == UNKNOWN && errno != EBADF && lines_are_ours())
        atomic_compare_exchange_strong(&seen[fd], &before, file ? OURS : OTHER);
    errno = number;
    return file;
}

void fake_came(int fd)
{
    if (fd >= 0 && fd < MANY)
        seen[fd] = line_file_of(fd) && !is_servers_own(fd) ? OURS : OTHER;
}

/* -- calls ------------------------------------------------------------------------------------ */

/* One errno for all signs that the server has ended. */
static void set_server_gone(void)
{
    if (errno == ECONNREFUSED || errno == ENOENT || errno == EPIPE)
        errno = ECONNRESET;
}

static bool send_call(int fd, uint32_t what, const void *data, size_t size)
{
    struct call call = { what, size };
    /* The kernel checks the address of a piece even if its size is 0. */
    struct iovec pieces[] = { { &call, sizeof call }, { (void *)data, size } };
    struct msghdr message = { .msg_iov = pieces, .msg_iovlen = size ? 2 : 1 };
    ssize_t sent;
    while ((sent = sendmsg(fd, &message, MSG_NOSIGNAL)) < 0 && errno == EINTR)
        ;
    return sent >= 0;
}

/* Receives an answer, with its bytes in the buffer; a signal ends this if it is endable. */
static bool receive_answer(int fd, struct answer *answer, void *buffer, size_t room, bool endable)
{
    size_t have = 0, whole = sizeof *answer;
    while (have < whole) {
        size_t head = have < sizeof *answer ? sizeof *answer - have : 0;
        size_t done = head ? 0 : have - sizeof *answer;
        struct iovec pieces[] = {
            { (char *)(answer + 1) - head, head },
            { (char *)buffer + done, room - done },
        };
        struct msghdr message = { .msg_iov = pieces, .msg_iovlen = room > done ? 2 : 1 };
        ssize_t more = recvmsg(fd, &message, 0);
        if (more < 0 && errno == EINTR && !endable)
            continue;
        if (more == 0)
            errno = ECONNRESET;
        if (more <= 0)
            return false;
        have += more;
        if (have >= sizeof *answer && answer->result >= 0)
            whole = sizeof *answer + answer->size;
    }
    return true;
}

/* Receives a number of bytes to the buffer, or drops them if the buffer is NULL. */
static bool receive(int fd, void *buffer, size_t size)
{
    char nowhere[512];
    while (size) {
        size_t most = buffer || size < sizeof nowhere ? size : sizeof nowhere;
        ssize_t got = recv(fd, buffer ? buffer : nowhere, most, 0);
        if (got < 0 && errno == EINTR)
            continue;
        if (got <= 0)
            return false;
        buffer = buffer ? (char *)buffer + got : NULL;
        size -= got;
    }
    return true;
}

/* Cancels a call that has no answer yet, or whose answer could not be received. */
static bool undo(int fd)
{
    struct answer answer;
    int number = errno;
    bool done = false, going = send_call(fd, CALL_UNDO, NULL, 0);
    while (going && !done) {
        going = receive(fd, &answer, sizeof answer);
        done = answer.result == -ECANCELED;
        if (going && answer.result > 0)
            going = receive(fd, NULL, answer.size);
    }
    errno = number;
    return done;
}

static void hang_up_on(void *line)
{
    line_hang_up(*(struct line *)line);
}

/* Receives the answer to a call that waits, as the driver's read does: a signal whose handler lacks
 * SA_RESTART ends it, and so does a cancellation of the thread. If the answer comes too late, the
 * server undoes the call. */
static bool await_answer(struct line line, struct answer *answer, void *buffer, size_t room,
                         int cancelstate)
{
    bool answered;
    pthread_cleanup_push(hang_up_on, &line);
    pthread_setcancelstate(cancelstate, NULL);
    answered = receive_answer(line.fd, answer, buffer, room, true);
    pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, NULL);
    pthread_cleanup_pop(0);
    return answered;
}

static ssize_t make_call(fake_file file, int fd, uint32_t what, const void *data, size_t size,
                         void *buffer, size_t room)
{
    int cancelstate;
    pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &cancelstate);
    struct line line = line_take(file, fd);
    struct answer answer = { 0 };
    bool sent = line.fd >= 0 && send_call(line.fd, what, data, size);
    bool answered =
        sent && (what == CALL_WAIT ? await_answer(line, &answer, buffer, room, cancelstate)
                                   : receive_answer(line.fd, &answer, buffer, room, false));
    bool given_up = !answered && (errno == EINTR || errno == EFAULT) && (!sent || undo(line.fd));
    if (answered || given_up)
        line_give_back(file, fd, line);
    else
        line_hang_up(line);
    pthread_setcancelstate(cancelstate, NULL);
    if (answered && answer.result >= 0)
        return answer.result;
    if (answered) /* KERNEL_BUG and REFUSED are not errnos */
        errno = -answer.result < 4096 ? -answer.result : EIO;
    else
        set_server_gone();
    return -1;
}

int fake_ioctl(fake_file file, int fd, unsigned long request, const void *argument)
{
    static const unsigned sizes[] = { 4, 8, 4, 4, 4, 0, 2, 4 }; /* of the requests' structs */
    unsigned number = _IOC_NR(request);
    if (number >= sizeof sizes / sizeof *sizes ||
        (uint32_t)request != _IOC(_IOC_NONE, 'E', number, sizes[number])) {
        errno = ENOSYS; /* as in the driver */
        return -1;
    }
    return make_call(file, fd, number, argument, sizes[number], NULL, 0);
}

/* The driver's read and write take whole ports, at most a page. */
static uint32_t whole_ports(size_t size)
{
    size_t page = sysconf(_SC_PAGESIZE);
    return size < page ? size / 4 * 4 : page;
}

ssize_t fake_read(fake_file file, int fd, void *buffer, size_t size)
{
    uint32_t most = whole_ports(size);
    bool waits = !(fcntl(fd, F_GETFL) & O_NONBLOCK);
    return make_call(file, fd, waits ? CALL_WAIT : CALL_READ, &most, sizeof most, buffer, most);
}

ssize_t fake_write(fake_file file, int fd, const void *buffer, size_t size)
{
    return make_call(file, fd, CALL_WRITE, buffer, whole_ports(size), NULL, 0);
}

/* -- opening and closing ---------------------------------------------------------------------- */

bool is_device(const char *path)
{
    return path && !strcmp(path, "/dev/xen/evtchn") && lines_wanted();
}

bool is_privcmd(const char *path)
{
    return path && !strcmp(path, "/dev/xen/privcmd") && lines_wanted();
}

/* Receives the answer to an open, and returns the descriptor that comes with it. */
static int receive_descriptor(int line, int flags)
{
    char text[256];
    int fd = -1;
    union {
        struct cmsghdr header;
        char bytes[CMSG_SPACE(sizeof fd)];
    } control;
    struct iovec piece = { text, sizeof text - 1 };
    struct msghdr message = {
        .msg_iov = &piece,
        .msg_iovlen = 1,
        .msg_control = control.bytes,
        .msg_controllen = sizeof control.bytes,
    };
    ssize_t got;
    while ((got = recvmsg(line, &message, flags & O_CLOEXEC ? MSG_CMSG_CLOEXEC : 0)) < 0 &&
           errno == EINTR)
        ;
    if (got <= 0) {
        errno = ECONNRESET;
        return -1;
    }
    text[got] = 0;
    struct cmsghdr *header = CMSG_FIRSTHDR(&message);
    if (header && header->cmsg_type == SCM_RIGHTS)
        memcpy(&fd, CMSG_DATA(header), sizeof fd);
    else if (!strncmp(text, "ok ", 3))
        errno = EMFILE; /* this process had no number left for it */
    else if (sscanf(text, "error %d", &errno) != 1)
        errno = EINVAL; /* no domain can have that domid */
    return fd;
}

static int open_on(int line, unsigned domid, int flags)
{
    char text[32];
    int size = snprintf(text, sizeof text, "open %u\n", domid), fd;
    while (send(line, text, size, MSG_NOSIGNAL) < 0 && errno == EINTR)
        ;
    fd = receive_descriptor(line, flags);
    if (fd >= 0 && flags & O_NONBLOCK)
        fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) | O_NONBLOCK);
    return fd;
}

int fake_open(int flags)
{
    int cancelstate;
    unsigned domid;
    pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &cancelstate);
    int line = line_connect(&domid);
    int fd = line < 0 ? -1 : open_on(line, domid, flags);
    if (fd >= 0) {
        fake_came(fd);
        line_give_back(fake_of(fd), fd, line_settle(fake_of(fd), line));
    } else {
        line_hang_up((struct line){ line, NULL });
        set_server_gone();
    }
    pthread_setcancelstate(cancelstate, NULL);
    return fd;
}

struct line fake_closing(fake_file file, int fd)
{
    if (!lines_are_ours())
        return (struct line){ -1, NULL };
    int cancelstate;
    pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &cancelstate);
    struct line line = line_take(file, fd);
    pthread_setcancelstate(cancelstate, NULL);
    return line;
}

void fake_closed(fake_file file, struct line line)
{
    if (!lines_are_ours())
        return;
    int cancelstate, number = errno;
    pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &cancelstate);
    if (line.fd >= 0)
        line_end(line);
    lines_end(file);
    pthread_setcancelstate(cancelstate, NULL);
    errno = number;
}

void fake_closing_many(void)
{
    if (!lines_are_ours())
        return;
    int cancelstate;
    pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &cancelstate);
    lines_end(0);
    pthread_setcancelstate(cancelstate, NULL);
}

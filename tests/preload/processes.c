/* Several processes with one file of the device. */
#include "device.h"

#include <signal.h>
#include <sys/socket.h>
#include <sys/wait.h>

static char **own_arguments;

/* Waits for a child, which must succeed. */
static void join(pid_t child)
{
    int status;
    NEED(waitpid(child, &status, 0) == child && status == 0);
}

static void a_child_uses_what_it_inherited(void)
{
    struct pair pair = open_pair(0);
    pid_t child = fork();
    if (child == 0) {
        for (int i = 0; i < 100; i++) {
            NEED(take(pair.far) == pair.far_port);
            unmask(pair.far, pair.far_port);
            notify(pair.far, pair.far_port);
        }
        close_pair(pair);
        _exit(0);
    }
    for (int i = 0; i < 100; i++) {
        notify(pair.near, pair.near_port);
        NEED(take(pair.near) == pair.near_port);
        unmask(pair.near, pair.near_port);
    }
    join(child);
    /* The child has closed it, but not this process. */
    notify(pair.near, pair.near_port);
    NEED(take(pair.far) == pair.far_port);
    close_pair(pair);
}

static void a_child_keeps_the_ports_until_it_ends(void)
{
    int fd = open_with_virq(), wait[2];
    NEED(pipe(wait) == 0);
    pid_t child = fork();
    if (child == 0) {
        char byte;
        close(wait[1]);
        NEED(read(wait[0], &byte, 1) == 0);
        _exit(0);
    }
    NEED(close(fd) == 0);
    NEED(!virq_is_free());
    NEED(close(wait[1]) == 0);
    join(child);
    NEED(virq_is_free());
}

static void a_vforked_child_closes_only_its_own(void)
{
    int fd = open_with_virq();
    pid_t child = vfork();
    if (child == 0) {
        close(fd);
        _exit(0);
    }
    join(child);
    NEED(!virq_is_free());
    NEED(ioctl(fd, RESET) == 0 && close(fd) == 0);
    NEED(virq_is_free());
}

static void a_killed_process_loses_its_ports(void)
{
    int ready[2];
    char byte;
    NEED(pipe(ready) == 0);
    pid_t child = fork();
    if (child == 0) {
        open_with_virq();
        NEED(write(ready[1], "", 1) == 1);
        pause();
    }
    NEED(read(ready[0], &byte, 1) == 1);
    NEED(!virq_is_free());
    NEED(kill(child, SIGKILL) == 0 && waitpid(child, NULL, 0) == child);
    NEED(virq_is_free());
}

/* The program that the next case executes, with the pair in its arguments. */
static void successor(void)
{
    struct pair pair = { atoi(own_arguments[2]), atoi(own_arguments[3]), atoi(own_arguments[4]),
                         atoi(own_arguments[5]) };
    NEED(poll_of(pair.far, 0) == (POLLIN | POLLOUT));
    for (int i = 0; i < 2; i++) {
        NEED(take(pair.far) == pair.far_port);
        unmask(pair.far, pair.far_port);
        notify(pair.near, pair.near_port);
    }
    close_pair(pair);
}

static void a_successor_has_the_ports_and_what_is_pending(void)
{
    struct pair pair = open_pair(0);
    char numbers[4][16];
    snprintf(numbers[0], 16, "%d", pair.near);
    snprintf(numbers[1], 16, "%d", pair.far);
    snprintf(numbers[2], 16, "%u", pair.near_port);
    snprintf(numbers[3], 16, "%u", pair.far_port);
    notify(pair.near, pair.near_port);
    execl("/proc/self/exe", own_arguments[0], "successor", numbers[0], numbers[1], numbers[2],
          numbers[3], NULL);
    NEED(!"executed");
}

static void send_descriptor(int socket, int fd)
{
    union {
        struct cmsghdr header;
        char bytes[CMSG_SPACE(sizeof fd)];
    } control = { 0 };
    struct iovec piece = { "", 1 };
    struct msghdr message = { .msg_iov = &piece, .msg_iovlen = 1, .msg_control = control.bytes,
                              .msg_controllen = sizeof control.bytes };
    control.header.cmsg_level = SOL_SOCKET;
    control.header.cmsg_type = SCM_RIGHTS;
    control.header.cmsg_len = CMSG_LEN(sizeof fd);
    memcpy(CMSG_DATA(&control.header), &fd, sizeof fd);
    NEED(sendmsg(socket, &message, 0) == 1);
}

static int receive_descriptor(int socket)
{
    int fd;
    char byte, control[CMSG_SPACE(sizeof fd)];
    struct iovec piece = { &byte, 1 };
    struct msghdr message = { .msg_iov = &piece, .msg_iovlen = 1, .msg_control = control,
                              .msg_controllen = sizeof control };
    NEED(recvmsg(socket, &message, 0) == 1 && CMSG_FIRSTHDR(&message));
    memcpy(&fd, CMSG_DATA(CMSG_FIRSTHDR(&message)), sizeof fd);
    return fd;
}

static void a_descriptor_can_be_sent(void)
{
    int sockets[2];
    NEED(socketpair(AF_UNIX, SOCK_STREAM, 0, sockets) == 0);
    pid_t child = fork();
    if (child == 0) {
        /* A number that was examined for another file, and then becomes the device's. */
        int other = open("/dev/null", O_RDONLY);
        NEED(read(other, &other, 0) == 0 && close(other) == 0);
        int fd = receive_descriptor(sockets[1]);
        NEED(fd == other && ioctl(fd, RESET) == 0 && !virq_is_free());
        char closed;
        NEED(close(fd) == 0 && read(sockets[1], &closed, 1) == 1 && virq_is_free());
        _exit(0);
    }
    int fd = open_with_virq();
    send_descriptor(sockets[0], fd);
    NEED(close(fd) == 0 && write(sockets[0], "", 1) == 1);
    join(child);
}

int main(int count, char **arguments)
{
    static const struct test cases[] = {
        CASE(a_child_uses_what_it_inherited),
        CASE(a_child_keeps_the_ports_until_it_ends),
        CASE(a_vforked_child_closes_only_its_own),
        CASE(a_killed_process_loses_its_ports),
        CASE(a_successor_has_the_ports_and_what_is_pending),
        CASE(a_descriptor_can_be_sent),
    };
    own_arguments = arguments;
    if (count > 1 && !strcmp(arguments[1], "successor"))
        return successor(), 0;
    return run_case(cases, sizeof cases / sizeof *cases, count > 1 ? arguments[1] : "");
}

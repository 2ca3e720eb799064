/* libxenevtchn, with threads and in a child process. */
#include <xenevtchn.h>

#include "../device.h"

#include <pthread.h>
#include <sys/wait.h>

enum { THREADS = 3, ROUNDS = 200 };

static xenevtchn_handle *far;
static int far_ports[THREADS], seen[THREADS];

/* A thread's own handle, with a port that is connected to the handle for the events of all. */
struct sender {
    xenevtchn_handle *handle;
    int port;
};

static xenevtchn_handle *open_handle(void)
{
    xenevtchn_handle *handle = xenevtchn_open(NULL, 0);
    NEED(handle);
    return handle;
}

static void take_and_unmask(xenevtchn_handle *handle, int port)
{
    NEED(xenevtchn_pending(handle) == port);
    NEED(xenevtchn_unmask(handle, port) == 0);
}

static struct sender make_sender(int *other)
{
    struct sender sender = { .handle = open_handle() };
    sender.port = xenevtchn_bind_unbound_port(sender.handle, SELF);
    NEED(sender.port > 0);
    *other = xenevtchn_bind_interdomain(far, SELF, sender.port);
    NEED(*other > 0);
    take_and_unmask(far, *other);
    return sender;
}

static void *send_rounds(void *argument)
{
    struct sender *sender = argument;
    for (int i = 0; i < ROUNDS; i++) {
        NEED(xenevtchn_notify(sender->handle, sender->port) == 0);
        take_and_unmask(sender->handle, sender->port);
    }
    NEED(xenevtchn_close(sender->handle) == 0);
    return NULL;
}

static void threads_wait_and_notify(void)
{
    pthread_t threads[THREADS];
    struct sender senders[THREADS];
    far = open_handle();
    for (int i = 0; i < THREADS; i++)
        senders[i] = make_sender(&far_ports[i]);
    for (int i = 0; i < THREADS; i++)
        NEED(pthread_create(&threads[i], NULL, send_rounds, &senders[i]) == 0);
    for (int left = THREADS * ROUNDS; left; left--) {
        int port = xenevtchn_pending(far);
        for (int i = 0; i < THREADS; i++)
            seen[i] += port == far_ports[i];
        NEED(xenevtchn_unmask(far, port) == 0 && xenevtchn_notify(far, port) == 0);
    }
    for (int i = 0; i < THREADS; i++)
        NEED(pthread_join(threads[i], NULL) == 0 && seen[i] == ROUNDS);
    NEED(xenevtchn_close(far) == 0);
}

/* After a fork the library allows the child to close, and nothing else. */
static void a_child_closes_its_parents_handle(void)
{
    int port, status;
    far = open_handle();
    struct sender sender = make_sender(&port);
    pid_t child = fork();
    if (child == 0)
        _exit(xenevtchn_close(far) || xenevtchn_close(sender.handle));
    NEED(waitpid(child, &status, 0) == child && status == 0);
    NEED(xenevtchn_notify(sender.handle, sender.port) == 0);
    take_and_unmask(far, port);
    NEED(xenevtchn_close(far) == 0 && xenevtchn_close(sender.handle) == 0);
}

static void virqs_and_restriction(void)
{
    xenevtchn_handle *handle = open_handle();
    int port = xenevtchn_bind_virq(handle, VIRQ_DEBUG);
    NEED(port > 0 && xenevtchn_unbind(handle, port) == 0);
    NEED(xenevtchn_restrict(handle, 5) == 0);
    NEED(xenevtchn_bind_virq(handle, VIRQ_DEBUG) == -1 && errno == EACCES);
    NEED(xenevtchn_close(handle) == 0);
}

int main(int count, char **arguments)
{
    static const struct test cases[] = {
        CASE(threads_wait_and_notify),
        CASE(a_child_closes_its_parents_handle),
        CASE(virqs_and_restriction),
    };
    return run_case(cases, sizeof cases / sizeof *cases, count > 1 ? arguments[1] : "");
}

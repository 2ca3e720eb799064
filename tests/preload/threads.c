/* Threads and signal handlers that use the device at the same time. */
#include "device.h"

#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <sys/time.h>

enum { THREADS = 4, ROUNDS = 300 };

static void start(pthread_t *thread, void *(*run)(void *), void *argument)
{
    NEED(pthread_create(thread, NULL, run, argument) == 0);
}

static struct pair pairs[THREADS];
static atomic_int seen[THREADS];

static void *send_rounds(void *argument)
{
    int mine = (struct pair *)argument - pairs;
    for (int i = 0; i < ROUNDS; i++) {
        notify(pairs[mine].near, pairs[mine].near_port);
        NEED(take(pairs[mine].near) == pairs[mine].near_port);
        unmask(pairs[mine].near, pairs[mine].near_port);
    }
    return NULL;
}

static void one_reads_while_others_notify(void)
{
    pthread_t threads[THREADS];
    int far = open_device(0);
    for (int i = 0; i < THREADS; i++)
        pairs[i] = connect_pair(open_device(0), far);
    for (int i = 0; i < THREADS; i++)
        start(&threads[i], send_rounds, &pairs[i]);
    for (int left = THREADS * ROUNDS; left; left--) {
        uint32_t port = take(far);
        for (int i = 0; i < THREADS; i++)
            seen[i] += pairs[i].far_port == port;
        unmask(far, port);
        notify(far, port);
    }
    for (int i = 0; i < THREADS; i++) {
        NEED(pthread_join(threads[i], NULL) == 0);
        NEED(seen[i] == ROUNDS);
        NEED(close(pairs[i].near) == 0);
    }
    NEED(close(far) == 0);
}

static void *take_one(void *argument)
{
    return (void *)(uintptr_t)take(*(int *)argument);
}

static void two_waiting_reads_get_an_event_each(void)
{
    int far = open_device(0), near = open_device(0);
    for (int i = 0; i < 2; i++)
        pairs[i] = connect_pair(near, far);
    for (int round = 0; round < ROUNDS; round++) {
        pthread_t threads[2];
        void *ports[2];
        for (int i = 0; i < 2; i++)
            start(&threads[i], take_one, &far);
        for (int i = 0; i < 2; i++)
            notify(near, pairs[i].near_port);
        for (int i = 0; i < 2; i++)
            NEED(pthread_join(threads[i], &ports[i]) == 0);
        NEED(ports[0] != ports[1]);
        for (int i = 0; i < 2; i++)
            unmask(far, pairs[i].far_port);
    }
    NEED(close(far) == 0 && close(near) == 0);
}

static struct pair signalled;
static atomic_int signals;

static void set_handler(void (*handle)(int), int flags)
{
    struct sigaction action = { .sa_handler = handle, .sa_flags = flags };
    NEED(sigaction(SIGALRM, &action, NULL) == 0);
}

static void set_timer(int first, int then)
{
    struct itimerval timer = { { 0, then }, { 0, first } };
    NEED(setitimer(ITIMER_REAL, &timer, NULL) == 0);
}

static void notify_the_third_time(int number)
{
    (void)number;
    int saved = errno;
    if (++signals == 3)
        notify(signalled.near, signalled.near_port);
    errno = saved;
}

static void a_read_is_restarted_with_sa_restart(void)
{
    signalled = open_pair(0);
    set_handler(notify_the_third_time, SA_RESTART);
    set_timer(20000, 20000);
    NEED(take(signalled.far) == signalled.far_port);
    set_timer(0, 0);
    NEED(signals >= 3);
    close_pair(signalled);
}

static void a_read_is_interrupted_without_sa_restart(void)
{
    uint32_t port;
    signalled = open_pair(0);
    set_handler(notify_the_third_time, 0);
    set_timer(20000, 20000);
    int interrupted = 0;
    while (read(signalled.far, &port, sizeof port) < 0) {
        int number = errno;
        NEED(number == EINTR);
        NEED(poll_of(signalled.far, 0) == (signals < 3 ? POLLOUT : POLLIN | POLLOUT));
        interrupted++;
    }
    set_timer(0, 0);
    NEED(interrupted && port == signalled.far_port);
    close_pair(signalled);
}

static void make_calls(int number)
{
    (void)number;
    int saved = errno;
    int port = request(signalled.near, BIND_UNBOUND_PORT, SELF);
    NEED(port > 0 && request(signalled.near, UNBIND, port) == 0);
    int fd = open_device(0);
    NEED(close(fd) == 0);
    signals++;
    errno = saved;
}

static void a_handler_makes_calls_during_calls(void)
{
    signalled = open_pair(0);
    set_handler(make_calls, SA_RESTART);
    for (int i = 0; i < 5 * ROUNDS || signals < 10; i++) {
        /* One signal a round: on a slow machine a periodic one would take all of the time. */
        set_timer(1 + i % 500, 0);
        notify(signalled.near, signalled.near_port);
        NEED(take(signalled.far) == signalled.far_port);
        unmask(signalled.far, signalled.far_port);
    }
    set_timer(0, 0);
    close_pair(signalled);
}

static void a_thread_that_waits_can_be_cancelled(void)
{
    struct pair pair = open_pair(0);
    for (int round = 0; round < 50; round++) {
        pthread_t thread;
        void *result;
        start(&thread, take_one, &pair.far);
        NEED(pthread_cancel(thread) == 0);
        NEED(pthread_join(thread, &result) == 0 && result == PTHREAD_CANCELED);
        /* It has taken no event, and takes none now. */
        notify(pair.near, pair.near_port);
        NEED(take(pair.far) == pair.far_port);
        unmask(pair.far, pair.far_port);
    }
    close_pair(pair);
    NEED(virq_is_free());
}

static void *open_and_close(void *argument)
{
    for (int i = 0; i < ROUNDS; i++) {
        int fd = open_device(0);
        NEED(request(fd, BIND_UNBOUND_PORT, SELF) > 0 && close(fd) == 0);
    }
    return argument;
}

static void threads_open_and_close(void)
{
    pthread_t threads[THREADS];
    for (int i = 0; i < THREADS; i++)
        start(&threads[i], open_and_close, NULL);
    for (int i = 0; i < THREADS; i++)
        NEED(pthread_join(threads[i], NULL) == 0);
}

static atomic_int under_way;

static void *use_until_it_is_closed(void *argument)
{
    int fd = *(int *)argument;
    under_way++;
    while (ioctl(fd, RESET) == 0)
        ;
    return (void *)(intptr_t)errno;
}

static void calls_fail_when_another_thread_closes_the_descriptor(void)
{
    pthread_t threads[THREADS];
    void *number;
    int dead = open("/", O_PATH);
    for (int round = 0; round < ROUNDS / 3; round++) {
        int fd = open_device(0);
        under_way = 0;
        for (int i = 0; i < THREADS; i++)
            start(&threads[i], use_until_it_is_closed, &fd);
        while (under_way < THREADS)
            sched_yield();
        NEED(dup2(dead, fd) == fd);
        for (int i = 0; i < THREADS; i++)
            NEED(pthread_join(threads[i], &number) == 0 && (intptr_t)number == EBADF);
        NEED(close(fd) == 0);
    }
}

int main(int count, char **arguments)
{
    static const struct test cases[] = {
        CASE(one_reads_while_others_notify),
        CASE(two_waiting_reads_get_an_event_each),
        CASE(a_read_is_restarted_with_sa_restart),
        CASE(a_read_is_interrupted_without_sa_restart),
        CASE(a_handler_makes_calls_during_calls),
        CASE(a_thread_that_waits_can_be_cancelled),
        CASE(threads_open_and_close),
        CASE(calls_fail_when_another_thread_closes_the_descriptor),
    };
    return run_case(cases, sizeof cases / sizeof *cases, count > 1 ? arguments[1] : "");
}

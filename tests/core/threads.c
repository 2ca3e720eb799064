/* Threads that use a handle in all ways at once. */
#include <errno.h>
#include <poll.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "driver.h"

enum { PAIRS = 20, ROUNDS = 100, READERS = 4 };

static struct handle handle;
static struct file *file;
/* Events that were sent to a port, and those that a reader has got. */
static atomic_int sent[MOST_PORTS], seen[MOST_PORTS];
static atomic_int left;
static uint32_t near[PAIRS], far[PAIRS];

static void open_pairs(void)
{
    struct batch batch = { 0 };
    file = file_open();
    attach(&handle, file);
    for (int i = 0; i < PAIRS; i++) {
        near[i] = handle_bind(&handle, &batch, BIND_UNBOUND_PORT, 0, 0);
        far[i] = handle_bind(&handle, &batch, BIND_INTERDOMAIN, 0, near[i]);
    }
}

static void close_all(void)
{
    NEED(handle_close(&handle) == 0);
    NEED(handle_close(&handle) == 0);
    NEED(file->released == 1);
    handle_free(&handle);
    file_free(file);
}

static _Thread_local uint32_t seed;

static uint32_t chance(uint32_t most)
{
    seed = seed * 1664525 + 1013904223;
    return (seed >> 8) % most;
}

static int64_t soon(void)
{
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return time.tv_sec * 1000000000LL + time.tv_nsec + 1000000;
}

/* The reader got an event. Only then is the next one sent: so none may be missing or come twice. */
static void got(uint32_t port)
{
    int number = ++seen[port];
    NEED(number == sent[port]);
    left--;
}

static void send_again(uint32_t port)
{
    if (sent[port] < ROUNDS) {
        sent[port]++;
        NEED(handle_notify(&handle, port % 2 ? port + 1 : port - 1) == 0);
    }
}

static void got_and_done(uint32_t port)
{
    got(port);
    send_again(port); /* it is masked: pending */
}

static void by_wait(struct batch *batch)
{
    uint32_t most = 1 + chance(5);
    int64_t found = handle_wait(&handle, batch, soon(), most, 0);
    NEED(found >= 0);
    uint32_t ports[PAGE_PORTS], count = batch->count;
    memcpy(ports, batch->ports, count * sizeof *ports);
    NEED(found == (count > 1 ? MANY | count : count ? ports[0] : 0));
    if (chance(3) == 0) {
        handle_put_back(&handle, batch); /* as after an exception */
        return;
    }
    batch->count = 0;
    for (uint32_t i = 0; i < count; i++)
        got_and_done(ports[i]);
    NEED(handle_unmask(&handle, ports, count) == 0);
}

static void by_loop(struct batch *batch)
{
    bool handed_over = false;
    for (int turns = 1 + chance(7); turns; turns--) {
        int64_t port = handle_next(&handle, batch, soon());
        NEED(port >= 0);
        handed_over = port && chance(5);
        if (!handed_over)
            break;
        got_and_done(port);
    }
    NEED(handle_leave(&handle, batch, handed_over) == 0);
}

static void by_port(struct batch *batch)
{
    uint32_t port = far[chance(PAIRS)];
    handle_reserve(&handle, port, true);
    NEED(handle_pull(&handle, NULL, 0) >= 0);
    bool there = handle_take_port(&handle, batch, port);
    handle_reserve(&handle, port, false);
    if (!there)
        return;
    batch->count = 0;
    got_and_done(port);
    NEED(handle_unmask_one(&handle, port) == 0);
}

static void *read_all(void *argument)
{
    struct batch *batch = calloc(1, sizeof *batch);
    NEED(batch);
    seed = (uintptr_t)argument;
    while (left > 0)
        switch (chance(4)) {
        case 0:
            by_wait(batch);
            break;
        case 1:
            by_loop(batch);
            break;
        case 2:
            by_port(batch);
            break;
        default:
            NEED(handle_poll(&handle, soon()) >= 0);
        }
    free(batch);
    return NULL;
}

static void no_event_is_lost_and_none_comes_twice(void)
{
    pthread_t readers[READERS];
    open_pairs();
    left = PAIRS * ROUNDS;
    for (int i = 0; i < PAIRS; i++)
        send_again(far[i]);
    for (uintptr_t i = 0; i < READERS; i++)
        start(&readers[i], read_all, (void *)i);
    for (int i = 0; i < READERS; i++)
        end(readers[i]);
    for (int i = 0; i < PAIRS; i++)
        NEED(seen[far[i]] == ROUNDS && sent[far[i]] == ROUNDS);
    NEED(handle_poll(&handle, 0) == 0);
    close_all();
}

static atomic_bool go_on;

static void *call_until_closed(void *argument)
{
    struct batch *batch = calloc(1, sizeof *batch);
    NEED(batch);
    int64_t result = 0;
    for (uintptr_t way = (uintptr_t)argument; result != CLOSED && result != CLOSED_MEANWHILE; way++)
        switch (way % 6) {
        case 0:
            result = handle_notify(&handle, near[0]);
            break;
        case 1:
            result = handle_wait(&handle, batch, soon(), PAGE_PORTS, far[0]);
            batch->count = 0;
            break;
        case 2:
            result = handle_next(&handle, batch, 0);
            handle_leave(&handle, batch, true);
            break;
        case 3:
            result = handle_poll(&handle, soon());
            break;
        case 4:
            result = handle_bind(&handle, batch, BIND_UNBOUND_PORT, 0, 0);
            if (result > 0)
                handle_unbind(&handle, result);
            break;
        default:
            result = handle_recover(&handle, (uint32_t[MOST_PORTS]){ 0 }, MOST_PORTS);
        }
    free(batch);
    return NULL;
}

static void the_last_call_closes_the_device(void)
{
    for (int round = 0; round < 50; round++) {
        pthread_t callers[6];
        open_pairs();
        for (uintptr_t i = 0; i < 6; i++)
            start(&callers[i], call_until_closed, (void *)i);
        usleep(round * 20);
        NEED(handle_close(&handle) == 0);
        for (int i = 0; i < 6; i++)
            end(callers[i]);
        close_all();
    }
}

static void *wait_for_ever(void *argument)
{
    struct batch *batch = calloc(1, sizeof *batch);
    int64_t result = argument ? handle_wait(&handle, batch, -1, PAGE_PORTS, 0)
                              : handle_poll(&handle, -1);
    free(batch);
    return (void *)(intptr_t)result;
}

static void its_end_wakes_those_who_wait(void)
{
    for (int stale = 0; stale < 2; stale++) {
        pthread_t waiters[READERS];
        open_pairs();
        for (uintptr_t i = 0; i < READERS; i++)
            start(&waiters[i], wait_for_ever, (void *)(i % 2));
        int64_t expected = stale ? STALE : CLOSED_MEANWHILE;
        if (stale)
            NEED(handle_mark_stale(&handle));
        else
            NEED(handle_close(&handle) == 0);
        for (int i = 0; i < READERS; i++) {
            void *result;
            NEED(pthread_join(waiters[i], &result) == 0);
            /* One that had not begun to wait is told that it is closed. */
            NEED((intptr_t)result == expected || (intptr_t)result == CLOSED);
        }
        NEED(handle_close(&handle) == stale);
        NEED(file->released == !stale);
        handle_free(&handle);
        NEED(file->released == !stale);
        file_free(file);
    }
}

static void *mark(void *argument)
{
    handle_mark_stale(argument);
    return NULL;
}

static void a_handle_is_closed_or_stale(void)
{
    for (int round = 0; round < 300; round++) {
        pthread_t marker;
        open_pairs();
        start(&marker, mark, &handle);
        bool kept = handle_close(&handle);
        end(marker);
        NEED(file->released == !kept);
        handle_free(&handle);
        file_free(file);
    }
}

static void *bind_and_unbind(void *argument)
{
    struct batch *batch = calloc(1, sizeof *batch);
    NEED(batch);
    for (int i = 0; i < 500; i++) {
        int64_t port = handle_bind(&handle, batch, BIND_UNBOUND_PORT, 0, 0);
        NEED(port > 0);
        struct binding entry;
        NEED(handle_binding(&handle, port, &entry) && entry.request == BIND_UNBOUND_PORT);
        if (i % 3 == 0)
            handle_put_back(&handle, batch); /* as after an exception: the port is not bound */
        else
            NEED(handle_unbind(&handle, port) == 0);
        batch->bound = 0;
    }
    free(batch);
    return argument;
}

static void the_table_has_what_the_driver_has(void)
{
    pthread_t binders[READERS];
    open_pairs();
    for (int i = 0; i < READERS; i++)
        start(&binders[i], bind_and_unbind, NULL);
    for (int i = 0; i < READERS; i++)
        end(binders[i]);
    struct binding entries[MOST_PORTS];
    NEED(handle_bindings(&handle, entries, MOST_PORTS) == 2 * PAIRS);
    for (uint32_t port = 1; port < MOST_PORTS; port++)
        NEED(file->bound[port] == handle_binding(&handle, port, entries));
    close_all();
}

static struct handle others[2];

static void *bind_static(void *argument)
{
    struct batch *batch = calloc(1, sizeof *batch);
    int64_t result = handle_bind(argument, batch, BIND_STATIC, 7, 0);
    free(batch);
    return (void *)(intptr_t)result;
}

static void two_handles_never_have_one_static_port(void)
{
    for (int round = 0; round < 500; round++) {
        struct file *files[2] = { file_open(), file_open() };
        pthread_t binders[2];
        int bound = 0;
        for (int i = 0; i < 2; i++)
            attach(&others[i], files[i]);
        for (int i = 0; i < 2; i++)
            start(&binders[i], bind_static, &others[i]);
        for (int i = 0; i < 2; i++) {
            void *result;
            NEED(pthread_join(binders[i], &result) == 0);
            NEED((intptr_t)result == 7 || (intptr_t)result == HELD);
            bound += (intptr_t)result == 7;
        }
        NEED(bound <= 1);
        NEED(files[0]->bound[7] + files[1]->bound[7] == bound);
        for (int i = 0; i < 2; i++) {
            NEED(handle_binding(&others[i], 7, &(struct binding){ 0 }) == files[i]->bound[7]);
            handle_free(&others[i]);
            file_free(files[i]);
        }
    }
}

static void unbind_in_the_middle(struct file *in)
{
    in->during = NULL;
    NEED(handle_unbind(&handle, far[0]) == 0);
}

/* As a signal handler can that runs in a driver in Python. */
static void a_call_in_a_call_changes_the_table_once(void)
{
    open_pairs();
    file->during = unbind_in_the_middle;
    NEED(handle_unbind(&handle, far[0]) == -ENOTCONN);
    struct binding entry;
    NEED(!handle_binding(&handle, far[0], &entry));
    NEED(handle_binding(&handle, near[0], &entry) && !entry.leaving);
    close_all();
}

static void *hold(void *argument)
{
    while (go_on)
        handle_binding(&handle, near[0], &(struct binding){ 0 });
    return argument;
}

static void a_child_waits_for_no_lock(void)
{
    pthread_t holders[2];
    open_pairs();
    go_on = true;
    for (int i = 0; i < 2; i++)
        start(&holders[i], hold, NULL);
    for (int round = 0; round < 100; round++) {
        pid_t child = fork();
        if (child == 0) {
            struct batch *batch = calloc(1, sizeof *batch);
            alarm(20); /* ends a child that waits */
            int ok = handle_notify(&handle, near[0]) == INHERITED &&
                     handle_wait(&handle, batch, -1, 1, 0) == INHERITED &&
                     handle_bind(&handle, batch, BIND_STATIC, 9, 0) == INHERITED &&
                     handle_recover(&handle, NULL, 0) == INHERITED &&
                     handle_fileno(&handle) == file->fd && handle_bindings(&handle, NULL, 0) == 0;
            _exit(!ok);
        }
        int status;
        NEED(waitpid(child, &status, 0) == child && status == 0);
    }
    go_on = false;
    for (int i = 0; i < 2; i++)
        end(holders[i]);
    close_all();
}

static const struct test tests[] = {
    CASE(no_event_is_lost_and_none_comes_twice),
    CASE(the_last_call_closes_the_device),
    CASE(its_end_wakes_those_who_wait),
    CASE(a_handle_is_closed_or_stale),
    CASE(the_table_has_what_the_driver_has),
    CASE(two_handles_never_have_one_static_port),
    CASE(a_call_in_a_call_changes_the_table_once),
    CASE(a_child_waits_for_no_lock),
    { 0 },
};

int main(int argc, char **argv)
{
    return run_case(tests, argc, argv);
}

/* Taking events. */
#define _GNU_SOURCE
#include <errno.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <time.h>

#include "handle.h"

/* -- the queue; the lock is held -- */

static bool is_reserved(const void *argument, uint32_t port)
{
    const struct handle *handle = argument;
    return handle->reserved.count && ports_find(&handle->reserved, port);
}

static bool has_free(const struct handle *handle)
{
    if (!handle->reserved.count)
        return handle->queue.count > 0;
    for (uint32_t i = 0; i < handle->queue.count; i++)
        if (!is_reserved(handle, queue_at(&handle->queue, i)))
            return true;
    return false;
}

/* Make `wake` tell whether there is something for those who wait on it. */
static void set_awake(struct handle *handle)
{
    bool awake = refusal(handle) != 0 || has_free(handle);
    eventfd_t number;
    if (awake && !handle->awake)
        eventfd_write(handle->wake, 1);
    else if (!awake && handle->awake)
        eventfd_read(handle->wake, &number);
    handle->awake = awake;
}

void changed(struct handle *handle)
{
    set_awake(handle);
    if (handle->watch >= 0)
        eventfd_write(handle->watch, 1);
}

/* Take back what loops have not handed over, oldest first. */
static void reclaim(struct handle *handle)
{
    for (struct batch *each = handle->loops; each; each = each->next) {
        queue_push(&handle->queue, each->ports + each->at, each->count - each->at);
        each->count = each->at;
    }
}

static uint32_t take(struct handle *handle, uint32_t *ports, uint32_t most)
{
    if (handle->loops && !has_free(handle))
        reclaim(handle);
    if (!handle->queue.count)
        return 0;
    uint32_t count = queue_take(&handle->queue, ports, most, is_reserved, handle);
    set_awake(handle);
    return count;
}

void forget(struct handle *handle, uint32_t port)
{
    bool dropped = queue_drop(&handle->queue, port);
    for (struct batch *each = handle->loops; each; each = each->next) {
        uint32_t left = each->at;
        for (uint32_t i = each->at; i < each->count; i++)
            if (each->ports[i] != port)
                each->ports[left++] = each->ports[i];
        dropped = dropped || left < each->count;
        each->count = left;
    }
    struct binding *reserved = ports_find(&handle->reserved, port);
    if (reserved)
        reserved->second++;
    handle->drops += dropped;
    changed(handle);
}

/* Remove a loop's batch from those that others may take from. */
static void unlink_loop(struct handle *handle, struct batch *batch)
{
    if (!batch->linked)
        return;
    struct batch **link = &handle->loops;
    while (*link != batch)
        link = &(*link)->next;
    *link = batch->next;
    batch->linked = false;
}

static void link_loop(struct handle *handle, struct batch *batch)
{
    struct batch **last = &handle->loops;
    while (*last)
        last = &(*last)->next;
    batch->next = NULL;
    *last = batch;
    batch->linked = true;
}

/* -- the ring; the lock is not held, a call is under way -- */

/* Leave out events of ports that were unbound before these were read; return how many are left. The
 * lock is held. */
static int drop_stale(struct handle *handle, uint32_t *ports, int count, uint32_t most)
{
    int left = 0;
    for (int i = 0; i < count; i++)
        if (!ports_find(&handle->stale_ports, ports[i]))
            ports[left++] = ports[i];
    /* The ring had less than there was room for, so it is empty: what comes later is not stale. */
    if ((uint32_t)count < most)
        ports_clear(&handle->stale_ports);
    return left;
}

/* Returns how many ports were read, -EAGAIN for none, or another error. */
static int read_ring(struct handle *handle, uint32_t *ports, uint32_t most)
{
    int count, left;
    do {
        count = handle->device.driver->read(handle->device.file, ports, most);
        if (count < 0 && count != -EAGAIN)
            return count;
        count = left = count < 0 ? 0 : count;
        pthread_mutex_lock(&handle->lock);
        if (handle->stale_ports.count)
            left = drop_stale(handle, ports, count, most);
        pthread_mutex_unlock(&handle->lock);
    } while (count && !left);
    return left ? left : -EAGAIN;
}

static int64_t pull(struct handle *handle)
{
    uint32_t ports[PAGE_PORTS];
    int count = read_ring(handle, ports, PAGE_PORTS);
    if (count <= 0)
        return count;
    pthread_mutex_lock(&handle->lock);
    queue_push(&handle->queue, ports, count);
    changed(handle);
    pthread_mutex_unlock(&handle->lock);
    return count;
}

static int64_t now(void)
{
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return time.tv_sec * 1000000000LL + time.tv_nsec;
}

/* Wait for the ring or for the queue, and for the end of the handle. Returns 0 if the time is over,
 * or 1, or -EINTR; and what the ring polled as. */
static int sleep_until(struct handle *handle, int64_t deadline, short *ring)
{
    struct pollfd either[] = { { handle->device.fd, POLLIN, 0 }, { handle->wake, POLLIN, 0 } };
    struct timespec most = { 0 };
    int64_t left = deadline > 0 ? deadline - now() : 0;
    if (left > 0)
        most = (struct timespec){ left / 1000000000, left % 1000000000 };
    int ready = ppoll(either, 2, deadline < 0 ? NULL : &most, NULL);
    *ring = either[0].revents;
    return ready < 0 ? -errno : ready > 0;
}

/* Why a call that is under way must end. The lock is held. */
static int refusal_since(const struct handle *handle)
{
    int refused = refusal(handle);
    return refused == CLOSED ? CLOSED_MEANWHILE : refused;
}

static int64_t receive(struct handle *handle, uint32_t *ports, int64_t deadline, uint32_t most)
{
    short ring;
    for (;;) {
        pthread_mutex_lock(&handle->lock);
        int64_t result = refusal_since(handle);
        if (!result)
            result = take(handle, ports, most);
        bool is_shared = handle->reserved.count > 0;
        pthread_mutex_unlock(&handle->lock);
        if (result)
            return result;
        /* Tasks wait for some ports: what comes for these is theirs, and not for this reader. */
        result = is_shared ? pull(handle) : read_ring(handle, ports, most);
        if (result > 0 && is_shared)
            continue;
        if (result != -EAGAIN)
            return result;
        if (deadline == 0)
            return 0;
        result = sleep_until(handle, deadline, &ring);
        if (result <= 0)
            return result;
    }
}

static int unmask(struct handle *handle, const uint32_t *ports, uint32_t count)
{
    return count ? handle->device.driver->write(handle->device.file, ports, count) : 0;
}

/* -- calls -- */

int64_t handle_wait(struct handle *handle, struct batch *batch, int64_t deadline, uint32_t most,
                    uint32_t port)
{
    int refused = begin(handle);
    if (refused)
        return refused;
    int64_t result = unmask(handle, &port, port != 0);
    if (result >= 0)
        result = unmask(handle, batch->ports, batch->done);
    if (result >= 0) {
        batch->done = 0;
        result = receive(handle, batch->ports, deadline, most);
        if (result > 0)
            batch->count = result;
    }
    return leave(handle, result == 1 ? batch->ports[0] : result > 1 ? MANY | result : result);
}

int64_t handle_next(struct handle *handle, struct batch *batch, int64_t deadline)
{
    if (handle_is_inherited(handle))
        return INHERITED;
    batch->fresh = false;
    pthread_mutex_lock(&handle->lock);
    int64_t result = refusal(handle);
    if (!result && batch->at < batch->count) {
        result = batch->ports[batch->at++];
        batch->fresh = true;
    }
    else if (!result) {
        unlink_loop(handle, batch);
        batch->done += batch->at;
        batch->at = batch->count = 0;
        enter(handle);
    }
    pthread_mutex_unlock(&handle->lock);
    if (result)
        return result;

    result = unmask(handle, batch->ports, batch->done);
    if (result >= 0) {
        batch->done = 0;
        result = receive(handle, batch->ports, deadline, PAGE_PORTS);
    }
    if (result > 0) {
        pthread_mutex_lock(&handle->lock);
        batch->count = result;
        batch->at = 1;
        batch->fresh = true;
        if (result > 1)
            link_loop(handle, batch);
        pthread_mutex_unlock(&handle->lock);
        result = batch->ports[0];
    }
    return leave(handle, result);
}

/* Put ports before all others in the queue. A closed handle has no use for them. */
static void give_back(struct handle *handle, const uint32_t *ports, uint32_t count)
{
    if (refusal(handle) == CLOSED || !count)
        return;
    queue_push_front(&handle->queue, ports, count);
    changed(handle);
}

int64_t handle_leave(struct handle *handle, struct batch *batch, bool handed_over)
{
    if (handle_is_inherited(handle))
        return INHERITED;
    pthread_mutex_lock(&handle->lock);
    unlink_loop(handle, batch);
    if (batch->fresh && !handed_over)
        batch->at--;
    /* Before the first event of a batch, `done` is left of the batch before; else it is 0. */
    uint32_t done = batch->at + batch->done;
    give_back(handle, batch->ports + batch->at, batch->count - batch->at);
    batch->count = batch->at = batch->done = 0;
    batch->fresh = false;
    int refused = enter(handle);
    pthread_mutex_unlock(&handle->lock);
    if (refused)
        return refused;
    return leave(handle, unmask(handle, batch->ports, done));
}

void handle_put_back(struct handle *handle, struct batch *batch)
{
    if (handle_is_inherited(handle))
        return;
    pthread_mutex_lock(&handle->lock);
    give_back(handle, batch->ports, batch->count);
    pthread_mutex_unlock(&handle->lock);
    uint32_t bound = batch->bound;
    batch->count = batch->done = batch->bound = 0;
    if (bound)
        handle_unbind(handle, bound);
}

int64_t handle_poll(struct handle *handle, int64_t deadline)
{
    int refused = begin(handle);
    if (refused)
        return refused;
    short ring = 0;
    int result = 0;
    for (;;) {
        pthread_mutex_lock(&handle->lock);
        refused = refusal_since(handle);
        if (!refused && handle->loops && !has_free(handle)) {
            reclaim(handle);
            set_awake(handle);
        }
        bool there = has_free(handle);
        pthread_mutex_unlock(&handle->lock);
        if (refused)
            break;
        result = ring ? 1 : sleep_until(handle, there ? 0 : deadline, &ring);
        if (result < 0 || ring || there || result == 0) {
            result = ring ? ring : there ? POLLIN : result;
            break;
        }
    }
    return leave(handle, refused ? refused : result);
}

/* -- tasks -- */

uint32_t handle_reserve(struct handle *handle, uint32_t port, bool more)
{
    if (handle_is_inherited(handle))
        return 0;
    pthread_mutex_lock(&handle->lock);
    struct binding *found = ports_find(&handle->reserved, port);
    uint32_t unbinds = found ? found->second : 0;
    if (more && !found)
        ports_put(&handle->reserved, (struct binding){ .port = port, .first = 1 });
    else if (found && (found->first += more ? 1 : -1) == 0)
        ports_remove(&handle->reserved, port);
    changed(handle);
    pthread_mutex_unlock(&handle->lock);
    return unbinds;
}

uint32_t handle_unbinds(struct handle *handle, uint32_t port)
{
    if (handle_is_inherited(handle))
        return 0;
    pthread_mutex_lock(&handle->lock);
    struct binding *found = ports_find(&handle->reserved, port);
    uint32_t unbinds = found ? found->second : 0;
    pthread_mutex_unlock(&handle->lock);
    return unbinds;
}

int64_t handle_pull(struct handle *handle, const uint32_t *ports, uint32_t count)
{
    int64_t result = handle_unmask(handle, ports, count);
    int refused = result < 0 ? result : begin(handle);
    if (refused)
        return refused;
    result = pull(handle);
    return leave(handle, result == -EAGAIN ? 0 : result);
}

bool handle_take_port(struct handle *handle, struct batch *batch, uint32_t port)
{
    if (handle_is_inherited(handle))
        return false;
    pthread_mutex_lock(&handle->lock);
    reclaim(handle);
    bool there = queue_drop(&handle->queue, port);
    if (there)
        batch->ports[0] = port;
    batch->count = there;
    set_awake(handle);
    pthread_mutex_unlock(&handle->lock);
    return there;
}

uint32_t handle_queued(struct handle *handle, uint32_t *ports, uint32_t room)
{
    if (handle_is_inherited(handle))
        return 0;
    pthread_mutex_lock(&handle->lock);
    reclaim(handle);
    uint32_t count = handle->queue.count;
    for (uint32_t i = 0; i < count && i < room; i++)
        ports[i] = queue_at(&handle->queue, i);
    set_awake(handle);
    pthread_mutex_unlock(&handle->lock);
    return count;
}

bool handle_has_free(struct handle *handle)
{
    if (handle_is_inherited(handle))
        return false;
    pthread_mutex_lock(&handle->lock);
    bool there = has_free(handle);
    pthread_mutex_unlock(&handle->lock);
    return there;
}

/* How a handle begins and ends. */
#define _GNU_SOURCE
#include "handle.h"

#include <errno.h>
#include <sys/eventfd.h>
#include <unistd.h>

/* -- forks -- */

/* A child must not take a handle's lock, which another thread of its parent may have held. So every
 * function looks at the generation first, which is another one in a child. */
static unsigned generation;

/* All open handles, for handle_held_elsewhere. */
static struct handle *all;
static pthread_mutex_t all_lock = PTHREAD_MUTEX_INITIALIZER;

static void start_child(void)
{
    generation++;
    all = NULL;
    pthread_mutex_init(&all_lock, NULL);
}

__attribute__((constructor)) static void prepare(void)
{
    pthread_atfork(NULL, NULL, start_child);
}

bool handle_is_inherited(const struct handle *handle)
{
    return handle->generation != generation;
}

/* -- the list of all open handles -- */

static void list(struct handle *handle)
{
    pthread_mutex_lock(&all_lock);
    handle->before = NULL;
    handle->after = all;
    if (all)
        all->before = handle;
    all = handle;
    pthread_mutex_unlock(&all_lock);
}

static void unlist(struct handle *handle)
{
    pthread_mutex_lock(&all_lock);
    if (handle->before)
        handle->before->after = handle->after;
    else if (all == handle)
        all = handle->after;
    if (handle->after)
        handle->after->before = handle->before;
    handle->before = handle->after = NULL;
    pthread_mutex_unlock(&all_lock);
}

bool handle_held_elsewhere(struct handle *handle, uint32_t port)
{
    if (handle_is_inherited(handle))
        return false;
    bool held = false;
    pthread_mutex_lock(&all_lock);
    for (struct handle *other = all; other && !held; other = other->after) {
        if (other == handle || other->space != handle->space)
            continue;
        pthread_mutex_lock(&other->lock);
        held = ports_find(&other->bound, port);
        pthread_mutex_unlock(&other->lock);
    }
    pthread_mutex_unlock(&all_lock);
    return held;
}

/* -- life -- */

int handle_take(struct handle *handle, struct device *device, uint64_t space)
{
    if (!device->driver)
        return CLOSED;
    int wake = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (wake < 0)
        return -errno;
    pthread_mutex_init(&handle->lock, NULL);
    handle->wake = wake;
    handle->watch = -1;
    handle->space = space;
    handle->complete = true;
    handle->generation = generation;
    handle->device = *device;
    device->driver = NULL;
    handle->state = IS_OPEN;
    list(handle);
    return 0;
}

/* No call is under way and none begins. The device of a stale handle stays open: to close it is a
 * bug of the kernel. */
static int release(struct handle *handle)
{
    if (handle->wake >= 0)
        close(handle->wake);
    handle->wake = handle->device.fd = -1;
    return handle->state == IS_CLOSED_STALE ? 0 : device_release(&handle->device);
}

/* The child's copies of the descriptors; the parent's handle stays as it is. */
static int close_inherited(struct handle *handle)
{
    if (refusal(handle) == CLOSED)
        return 0;
    handle->state = handle->state == IS_STALE ? IS_CLOSED_STALE : IS_CLOSED;
    return release(handle);
}

int handle_close(struct handle *handle)
{
    if (handle_is_inherited(handle))
        return close_inherited(handle);
    pthread_mutex_lock(&handle->lock);
    bool stale = handle->state == IS_STALE;
    bool first = stale || handle->state == IS_OPEN;
    if (first) {
        handle->state = stale ? IS_CLOSED_STALE : IS_CLOSED;
        ports_clear(&handle->bound);
        queue_clear(&handle->queue);
        handle->virqs = 0;
        changed(handle);
    }
    bool last = first && handle->calls == 0;
    pthread_mutex_unlock(&handle->lock);
    if (first && !stale)
        unlist(handle);
    int result = last ? release(handle) : 0;
    return result ? result : first && stale;
}

void handle_free(struct handle *handle)
{
    handle_close(handle);
    ports_clear(&handle->bound);
    ports_clear(&handle->stale_ports);
    ports_clear(&handle->reserved);
    queue_clear(&handle->queue);
}

bool handle_mark_stale(struct handle *handle)
{
    if (handle_is_inherited(handle))
        return false;
    pthread_mutex_lock(&handle->lock);
    bool marked = handle->state == IS_OPEN && (handle->bound.count || !handle->complete);
    if (marked) {
        handle->state = IS_STALE;
        changed(handle);
    }
    bool stale = handle->state == IS_STALE;
    pthread_mutex_unlock(&handle->lock);
    /* Its port numbers may be other handles' now. */
    if (marked)
        unlist(handle);
    return stale;
}

/* -- calls -- */

int refusal(const struct handle *handle)
{
    switch (handle->state) {
    case IS_OPEN:
        return 0;
    case IS_STALE:
        return STALE;
    default:
        return CLOSED;
    }
}

int enter(struct handle *handle)
{
    int refused = refusal(handle);
    handle->calls += !refused;
    return refused;
}

int begin(struct handle *handle)
{
    if (handle_is_inherited(handle))
        return INHERITED;
    pthread_mutex_lock(&handle->lock);
    int refused = enter(handle);
    pthread_mutex_unlock(&handle->lock);
    return refused;
}

int64_t leave(struct handle *handle, int64_t result)
{
    pthread_mutex_lock(&handle->lock);
    bool last = --handle->calls == 0 && refusal(handle) == CLOSED;
    pthread_mutex_unlock(&handle->lock);
    int released = last ? release(handle) : 0;
    return released ? released : result;
}

int handle_check(struct handle *handle)
{
    if (handle_is_inherited(handle))
        return INHERITED;
    pthread_mutex_lock(&handle->lock);
    int refused = refusal(handle);
    pthread_mutex_unlock(&handle->lock);
    return refused;
}

int handle_fileno(struct handle *handle)
{
    if (handle_is_inherited(handle))
        return refusal(handle) == CLOSED ? CLOSED : handle->device.fd;
    pthread_mutex_lock(&handle->lock);
    int fd = refusal(handle) == CLOSED ? CLOSED : handle->device.fd;
    pthread_mutex_unlock(&handle->lock);
    return fd;
}

void handle_watch(struct handle *handle, int eventfd)
{
    if (handle_is_inherited(handle))
        return;
    pthread_mutex_lock(&handle->lock);
    handle->watch = eventfd;
    pthread_mutex_unlock(&handle->lock);
}

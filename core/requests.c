/* Requests, and the table of the ports that they bind. */
#define _GNU_SOURCE
#include <errno.h>
#include <poll.h>
#include <stdlib.h>

#include "handle.h"

static int64_t ask(struct handle *handle, uint32_t number, uint32_t first, uint32_t second)
{
    return handle->device.driver->request(handle->device.file, number, first, second);
}

int64_t handle_request(struct handle *handle, uint32_t number, uint32_t first, uint32_t second)
{
    int refused = begin(handle);
    if (refused)
        return refused;
    return leave(handle, ask(handle, number, first, second));
}

/* -- binding -- */

/* Record a binding. If events were dropped since `drops`, while the driver made it, its first one may
 * have been among them: then it gets one, which at worst nobody sent. The lock is held. */
static void record(struct handle *handle, struct binding binding, uint32_t drops)
{
    if (refusal(handle))
        return;
    binding.stamp = handle->stamp++;
    ports_remove(&handle->stale_ports, binding.port);
    struct binding *before = ports_find(&handle->bound, binding.port);
    handle->virqs += (binding.request == BIND_VIRQ) - (before && before->request == BIND_VIRQ);
    ports_put(&handle->bound, binding);
    if (handle->drops != drops) {
        queue_push(&handle->queue, &binding.port, 1);
        changed(handle);
    }
}

/* The lock is held. */
static void erase(struct handle *handle, uint32_t port)
{
    struct binding *found = ports_find(&handle->bound, port);
    if (!found)
        return;
    handle->virqs -= found->request == BIND_VIRQ;
    ports_remove(&handle->bound, port);
}

void handle_tell(struct handle *handle, const struct binding *binding)
{
    pthread_mutex_lock(&handle->lock);
    record(handle, *binding, handle->drops);
    pthread_mutex_unlock(&handle->lock);
}

/* Two threads may ask for the same port at once: each claims it before it asks the driver. */
static int claim(struct handle *handle, uint32_t port)
{
    pthread_mutex_lock(&handle->lock);
    int refused = refusal(handle);
    struct binding *found = ports_find(&handle->bound, port);
    if (!refused && !found)
        record(handle, (struct binding){ .port = port, .request = BIND_STATIC, .claimed = true },
               handle->drops);
    pthread_mutex_unlock(&handle->lock);
    if (refused || found)
        return refused ? refused : -EISCONN;
    if (!handle_held_elsewhere(handle, port))
        return 0;
    pthread_mutex_lock(&handle->lock);
    erase(handle, port);
    pthread_mutex_unlock(&handle->lock);
    return HELD;
}

static int64_t bind_static(struct handle *handle, struct batch *batch, uint32_t port)
{
    int claimed = port ? claim(handle, port) : -EISCONN;
    /* The driver has its own answer for a port that this handle has already, and for port 0. */
    if (claimed && claimed != -EISCONN)
        return claimed;
    int64_t result = ask(handle, BIND_STATIC, port, 0);
    pthread_mutex_lock(&handle->lock);
    struct binding *found = ports_find(&handle->bound, port);
    if (result >= 0 && found) {
        found->claimed = false;
        batch->bound = port;
    }
    else if (!claimed)
        erase(handle, port);
    pthread_mutex_unlock(&handle->lock);
    return result < 0 ? result : port;
}

static int64_t bind_new(struct handle *handle, struct batch *batch, struct binding binding)
{
    pthread_mutex_lock(&handle->lock);
    uint32_t drops = handle->drops;
    pthread_mutex_unlock(&handle->lock);
    int64_t port = ask(handle, binding.request, binding.first, binding.second);
    /* Xen has allocated a port that the driver still has: the domain was restored. The EEXIST of a
     * VIRQ has more causes. */
    if (port == -EEXIST && binding.request != BIND_VIRQ)
        handle_mark_stale(handle);
    if (port < 0)
        return port;
    pthread_mutex_lock(&handle->lock);
    binding.port = port;
    record(handle, binding, drops);
    batch->bound = port;
    pthread_mutex_unlock(&handle->lock);
    return port;
}

int64_t handle_bind(struct handle *handle, struct batch *batch, uint32_t number, uint32_t first,
                    uint32_t second)
{
    int refused = begin(handle);
    if (refused)
        return refused;
    int64_t port = number == BIND_STATIC
        ? bind_static(handle, batch, first)
        : bind_new(handle, batch,
                   (struct binding){ .request = number, .first = first, .second = second });
    return leave(handle, port);
}

/* Events of a port that was unbound may still be in the ring. Readers leave them out until the ring has
 * been seen empty; but not if another handle of the same file may have bound the number again. */
static bool may_be_in_ring(const struct handle *handle)
{
    struct pollfd ring = { handle->device.fd, POLLIN, 0 };
    return !handle->shared && poll(&ring, 1, 0) != 0;
}

int64_t handle_unbind(struct handle *handle, uint32_t port)
{
    int refused = begin(handle);
    if (refused)
        return refused;
    pthread_mutex_lock(&handle->lock);
    struct binding *found = ports_find(&handle->bound, port);
    uint32_t stamp = found ? found->stamp : 0;
    bool was_bound = found;
    if (found)
        found->leaving = true;
    pthread_mutex_unlock(&handle->lock);

    int64_t result = ask(handle, UNBIND, port, 0);
    bool in_ring = result >= 0 && may_be_in_ring(handle);

    pthread_mutex_lock(&handle->lock);
    found = ports_find(&handle->bound, port);
    /* Another thread may have bound the number again meanwhile, or a signal handler have unbound it. */
    bool same = was_bound ? found && found->stamp == stamp : !found;
    if (result >= 0 && same) {
        erase(handle, port);
        forget(handle, port);
        if (in_ring)
            ports_put(&handle->stale_ports, (struct binding){ .port = port });
    }
    else if (same && found)
        found->leaving = false;
    pthread_mutex_unlock(&handle->lock);
    return leave(handle, result);
}

/* A claimed port is not bound yet. */
static bool is_bound(const struct binding *binding)
{
    return binding->port && !binding->claimed;
}

uint32_t handle_bindings(struct handle *handle, struct binding *entries, uint32_t room)
{
    uint32_t count = 0;
    if (handle_is_inherited(handle))
        return 0;
    pthread_mutex_lock(&handle->lock);
    for (uint32_t i = 0; i < handle->bound.room; i++) {
        if (!is_bound(&handle->bound.entries[i]))
            continue;
        if (count < room)
            entries[count] = handle->bound.entries[i];
        count++;
    }
    pthread_mutex_unlock(&handle->lock);
    return count;
}

bool handle_binding(struct handle *handle, uint32_t port, struct binding *entry)
{
    if (handle_is_inherited(handle))
        return false;
    pthread_mutex_lock(&handle->lock);
    struct binding *found = ports_find(&handle->bound, port);
    bool bound = found && is_bound(found);
    if (bound)
        *entry = *found;
    pthread_mutex_unlock(&handle->lock);
    return bound;
}

int64_t handle_stamp(struct handle *handle, uint32_t port)
{
    struct binding entry;
    return handle_binding(handle, port, &entry) ? (int64_t)entry.stamp : -1;
}

/* -- sending -- */

/* A notification of a VIRQ's port goes nowhere, and the kernel reports no error. The lock is held. */
static bool has_virq(const struct handle *handle, uint32_t port)
{
    if (!handle->virqs)
        return false;
    struct binding *found = ports_find(&handle->bound, port);
    return found && found->request == BIND_VIRQ;
}

int64_t handle_notify(struct handle *handle, uint32_t port)
{
    if (handle_is_inherited(handle))
        return INHERITED;
    pthread_mutex_lock(&handle->lock);
    int refused = has_virq(handle, port) ? HAS_VIRQ : enter(handle);
    pthread_mutex_unlock(&handle->lock);
    if (refused)
        return refused;
    return leave(handle, ask(handle, NOTIFY, port, 0));
}

int64_t handle_notify_many(struct handle *handle, const uint32_t *ports, uint32_t count)
{
    if (handle_is_inherited(handle))
        return INHERITED;
    pthread_mutex_lock(&handle->lock);
    int refused = 0;
    for (uint32_t i = 0; handle->virqs && i < count && !refused; i++)
        refused = has_virq(handle, ports[i]) ? HAS_VIRQ : 0;
    refused = refused ? refused : enter(handle);
    pthread_mutex_unlock(&handle->lock);
    if (refused)
        return refused;
    int64_t result = 0;
    uint32_t sent = 0;
    while (sent < count && (result = ask(handle, NOTIFY, ports[sent], 0)) >= 0)
        sent++;
    return leave(handle, result == RAISED ? result : result < 0 ? -result << 32 | sent : sent);
}

/* -- unmasking, and recovering -- */

/* The driver takes a page at a time. */
static int unmask(struct handle *handle, const uint32_t *ports, uint32_t count)
{
    for (uint32_t done = 0; done < count; done += PAGE_PORTS) {
        uint32_t most = count - done < PAGE_PORTS ? count - done : PAGE_PORTS;
        int result = handle->device.driver->write(handle->device.file, ports + done, most);
        if (result < 0)
            return result;
    }
    return 0;
}

int64_t handle_unmask(struct handle *handle, const uint32_t *ports, uint32_t count)
{
    int refused = begin(handle);
    if (refused)
        return refused;
    return leave(handle, unmask(handle, ports, count));
}

int64_t handle_unmask_one(struct handle *handle, uint32_t port)
{
    return handle_unmask(handle, &port, 1);
}

int64_t handle_reset(struct handle *handle)
{
    int64_t result = handle_request(handle, RESET, 0, 0);
    if (result < 0)
        return result;
    pthread_mutex_lock(&handle->lock);
    handle->drops++;
    ports_clear(&handle->stale_ports);
    pthread_mutex_unlock(&handle->lock);
    return result;
}

int64_t handle_recover(struct handle *handle, uint32_t *ports, uint32_t room)
{
    int refused = begin(handle);
    if (refused)
        return refused;
    uint32_t count = handle_bindings(handle, NULL, 0);
    int64_t result = count <= room ? handle_reset(handle) : 0;
    if (count <= room && result >= 0) {
        struct binding *entries = must_realloc(NULL, (room + 1) * sizeof *entries);
        count = handle_bindings(handle, entries, room);
        for (uint32_t i = 0; i < count && i < room; i++)
            ports[i] = entries[i].port;
        free(entries);
        result = unmask(handle, ports, count < room ? count : room);
    }
    return leave(handle, result < 0 ? result : count);
}

#include "queue.h"

#include <stdlib.h>

#include "ports.h"

static uint32_t *slot(const struct queue *queue, uint32_t index)
{
    return &queue->ports[(queue->first + index) & (queue->room - 1)];
}

uint32_t queue_at(const struct queue *queue, uint32_t index)
{
    return *slot(queue, index);
}

static void make_room(struct queue *queue, uint32_t more)
{
    if (queue->count + more <= queue->room)
        return;
    struct queue larger = { .room = queue->room ? queue->room : 64, .count = queue->count };
    while (larger.room < queue->count + more)
        larger.room *= 2;
    larger.ports = must_realloc(NULL, larger.room * sizeof *larger.ports);
    for (uint32_t i = 0; i < queue->count; i++)
        larger.ports[i] = queue_at(queue, i);
    free(queue->ports);
    *queue = larger;
}

void queue_push(struct queue *queue, const uint32_t *ports, uint32_t count)
{
    make_room(queue, count);
    for (uint32_t i = 0; i < count; i++)
        *slot(queue, queue->count + i) = ports[i];
    queue->count += count;
}

void queue_push_front(struct queue *queue, const uint32_t *ports, uint32_t count)
{
    make_room(queue, count);
    queue->first -= count;
    for (uint32_t i = 0; i < count; i++)
        *slot(queue, i) = ports[i];
    queue->count += count;
}

uint32_t queue_take(struct queue *queue, uint32_t *ports, uint32_t most,
                    bool (*kept)(const void *argument, uint32_t port), const void *argument)
{
    uint32_t taken = 0, left = 0, index = 0;
    for (; index < queue->count && taken < most; index++) {
        uint32_t port = queue_at(queue, index);
        if (kept(argument, port))
            *slot(queue, left++) = port;
        else
            ports[taken++] = port;
    }
    /* The few that were passed over move up to those that were not looked at. */
    for (uint32_t i = 0; i < left; i++)
        *slot(queue, index - 1 - i) = queue_at(queue, left - 1 - i);
    queue->first += index - left;
    queue->count -= taken;
    return taken;
}

bool queue_drop(struct queue *queue, uint32_t port)
{
    uint32_t left = 0;
    for (uint32_t i = 0; i < queue->count; i++)
        if (queue_at(queue, i) != port)
            *slot(queue, left++) = queue_at(queue, i);
    bool dropped = left < queue->count;
    queue->count = left;
    return dropped;
}

void queue_clear(struct queue *queue)
{
    free(queue->ports);
    *queue = (struct queue){ 0 };
}

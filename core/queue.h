/* A queue of events: ports, oldest first; a port may be in it more than once. */
#ifndef QUEUE_H
#define QUEUE_H

#include <stdbool.h>
#include <stdint.h>

struct queue {
    uint32_t *ports;
    uint32_t room, first, count; /* the room is 0 or a power of two */
};

uint32_t queue_at(const struct queue *queue, uint32_t index);
void queue_push(struct queue *queue, const uint32_t *ports, uint32_t count);

/* Put ports before all others, in their order. */
void queue_push_front(struct queue *queue, const uint32_t *ports, uint32_t count);

/* Take the oldest ports, at most `most`, but none that `kept` returns true for. */
uint32_t queue_take(struct queue *queue, uint32_t *ports, uint32_t most,
                    bool (*kept)(const void *argument, uint32_t port), const void *argument);

/* Remove all events of a port; return whether there were any. */
bool queue_drop(struct queue *queue, uint32_t port);

void queue_clear(struct queue *queue);

#endif

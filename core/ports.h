/* A table of ports, hashed: those that a handle has bound, or those that tasks have reserved. */
#ifndef PORTS_H
#define PORTS_H

#include <stdbool.h>
#include <stdint.h>

/* How a port was bound: the request and its arguments. */
struct binding {
    uint32_t port; /* 0: no entry; Xen never allocates it */
    uint32_t request, first, second;
    uint32_t stamp; /* different for every binding of a handle */
    bool claimed;   /* the request that binds it is under way */
    bool leaving;   /* an UNBIND of it is under way */
};

struct ports {
    struct binding *entries;
    uint32_t room, count; /* the room is 0 or a power of two */
};

/* Returns NULL if there is no such port. The pointer holds until the table changes. */
struct binding *ports_find(const struct ports *ports, uint32_t port);

/* Adds an entry, or replaces that of the same port. */
void ports_put(struct ports *ports, struct binding binding);

void ports_remove(struct ports *ports, uint32_t port);
void ports_clear(struct ports *ports);

/* realloc(3) that ends the process if there is no memory, as Python itself does where it cannot
 * raise an exception: what it is for are events that were read and must not be lost. */
void *must_realloc(void *memory, uint64_t size);

#endif

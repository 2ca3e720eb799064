#include "ports.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

void *must_realloc(void *memory, uint64_t size)
{
    void *larger = realloc(memory, size);
    if (!larger) {
        fputs("pyxenevtchn: no memory for events or ports\n", stderr);
        abort();
    }
    return larger;
}

/* The place where an entry is looked for first. Ports are small numbers in sequence. */
static uint32_t place(const struct ports *ports, uint32_t port)
{
    return port & (ports->room - 1);
}

static uint32_t next(const struct ports *ports, uint32_t index)
{
    return (index + 1) & (ports->room - 1);
}

struct binding *ports_find(const struct ports *ports, uint32_t port)
{
    if (!ports->count || !port)
        return NULL;
    for (uint32_t i = place(ports, port); ports->entries[i].port; i = next(ports, i))
        if (ports->entries[i].port == port)
            return &ports->entries[i];
    return NULL;
}

static void insert(struct ports *ports, struct binding binding)
{
    uint32_t i = place(ports, binding.port);
    while (ports->entries[i].port)
        i = next(ports, i);
    ports->entries[i] = binding;
}

static void grow(struct ports *ports)
{
    struct ports larger = { NULL, ports->room ? 2 * ports->room : 16, ports->count };
    larger.entries = must_realloc(NULL, larger.room * sizeof *larger.entries);
    memset(larger.entries, 0, larger.room * sizeof *larger.entries);
    for (uint32_t i = 0; i < ports->room; i++)
        if (ports->entries[i].port)
            insert(&larger, ports->entries[i]);
    free(ports->entries);
    *ports = larger;
}

void ports_put(struct ports *ports, struct binding binding)
{
    struct binding *found = ports_find(ports, binding.port);
    if (found) {
        *found = binding;
        return;
    }
    /* At most half full: an unsuccessful search is short. */
    if (2 * (ports->count + 1) > ports->room)
        grow(ports);
    insert(ports, binding);
    ports->count++;
}

void ports_remove(struct ports *ports, uint32_t port)
{
    struct binding *found = ports_find(ports, port);
    if (!found)
        return;
    ports->count--;
    /* Move up the entries that a search for them would no longer reach. */
    uint32_t hole = found - ports->entries;
    for (uint32_t i = next(ports, hole); ports->entries[i].port; i = next(ports, i)) {
        uint32_t mask = ports->room - 1;
        uint32_t home = place(ports, ports->entries[i].port);
        if (((i - home) & mask) >= ((i - hole) & mask)) {
            ports->entries[hole] = ports->entries[i];
            hole = i;
        }
    }
    ports->entries[hole].port = 0;
}

void ports_clear(struct ports *ports)
{
    free(ports->entries);
    *ports = (struct ports){ 0 };
}

/* The table of ports and the queue, against simple ones. */
#include <string.h>

#include "driver.h"
#include "ports.h"
#include "queue.h"

enum { STEPS = 20000, KEYS = 300 };

static uint32_t seed = 1;

static uint32_t chance(uint32_t most)
{
    seed = seed * 1664525 + 1013904223;
    return (seed >> 8) % most;
}

static void a_table_has_what_was_put_in_and_not_removed(void)
{
    struct ports ports = { 0 };
    uint32_t expected[KEYS] = { 0 }, count = 0;
    for (int step = 0; step < STEPS; step++) {
        uint32_t key = 1 + chance(KEYS - 1), port = key;
        if (chance(2)) {
            count += !expected[key];
            expected[key] = step + 1;
            ports_put(&ports, (struct binding){ .port = port, .first = step + 1 });
        }
        else {
            count -= expected[key] != 0;
            expected[key] = 0;
            ports_remove(&ports, port);
        }
        NEED(ports.count == count);
        key = 1 + chance(KEYS - 1);
        struct binding *found = ports_find(&ports, key);
        NEED(expected[key] ? found && found->first == expected[key] : !found);
    }
    NEED(!ports_find(&ports, 0));
    ports_clear(&ports);
    NEED(!ports_find(&ports, 1));
}

static bool is_kept(const void *argument, uint32_t port)
{
    return port == *(const uint32_t *)argument;
}

static void a_queue_keeps_its_order(void)
{
    struct queue queue = { 0 };
    static uint32_t expected[16 * STEPS], some[16], taken[16];
    uint32_t first = 8 * STEPS, last = first;
    for (int step = 0; step < STEPS; step++) {
        uint32_t count = chance(8);
        for (uint32_t i = 0; i < count; i++)
            some[i] = 1 + chance(5);
        switch (chance(4)) {
        case 0:
            queue_push(&queue, some, count);
            memcpy(expected + last, some, count * sizeof *some);
            last += count;
            break;
        case 1:
            queue_push_front(&queue, some, count);
            first -= count;
            memcpy(expected + first, some, count * sizeof *some);
            break;
        case 2: {
            uint32_t kept = 1 + chance(8), left = 0, found = 0, index = first;
            uint32_t got = queue_take(&queue, taken, count, is_kept, &kept);
            for (; index < last && found < count; index++) {
                if (expected[index] == kept)
                    expected[first + left++] = kept;
                else
                    NEED(taken[found++] == expected[index]);
            }
            NEED(got == found);
            memmove(expected + index - left, expected + first, left * sizeof *expected);
            first = index - left;
            break;
        }
        default: {
            uint32_t port = 1 + chance(20), left = first;
            for (uint32_t index = first; index < last; index++)
                if (expected[index] != port)
                    expected[left++] = expected[index];
            NEED(queue_drop(&queue, port) == (left < last));
            last = left;
        }
        }
        NEED(queue.count == last - first);
        for (uint32_t i = 0; i < queue.count; i++)
            NEED(queue_at(&queue, i) == expected[first + i]);
    }
    queue_clear(&queue);
}

static const struct test tests[] = {
    CASE(a_table_has_what_was_put_in_and_not_removed),
    CASE(a_queue_keeps_its_order),
    { 0 },
};

int main(int argc, char **argv)
{
    return run_case(tests, argc, argv);
}

/* A handle: an open device in use, and the whole of its state.
 *
 * Every change of the state is one function, under one lock. So a signal handler of Python, which
 * runs before a function or after it, never meets a change that is half made; nor does another
 * thread, with or without a GIL; nor garbage collection.
 *
 * The lock is never held while the driver is called: a driver may be Python, which may run a signal
 * handler, which may call the handle again. A function whose work is not done in one step (it asks
 * the driver in the middle) looks again, under the lock, at what it found before.
 *
 * Where an event can be:
 *
 *   the driver's ring --> a call's batch --> Python
 *                     \     |    ^
 *                      v    v    |
 *                     the queue  <--  a loop's batch, what it has not handed over
 *
 *   in the ring        until a read
 *   in a call's batch  from the read until Python has stored that it has it (batch.count = 0);
 *                      if an exception comes first, handle_put_back moves it to the queue
 *   in a loop's batch  from the read until it is handed over, one event for each handle_next;
 *                      any reader may take what was not; what is left goes to the queue when the
 *                      loop ends
 *   in the queue       until a reader takes it
 *
 * In the queue and in the batches of loops it is also an event of the port's binding: an unbind
 * removes it.
 *
 * What can still fail: a signal handler's exception in a driver in Python, which may have changed
 * its own state; the fake says what it does about that. */
#ifndef HANDLE_H
#define HANDLE_H

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

#include "device.h"
#include "ports.h"
#include "queue.h"

enum state { IS_CLOSED, IS_OPEN, IS_STALE, IS_CLOSED_STALE };

/* What one call, or one loop, has taken. Python reads and writes the words up to the ports. */
struct batch {
    uint32_t count; /* ports that were taken and not handed over yet; of a loop: from `at` on */
    uint32_t done;  /* ports to unmask */
    uint32_t bound; /* a port that was bound, and whose number the caller does not have yet */
    uint32_t ports[PAGE_PORTS];
    uint32_t at;    /* of a loop: how many of the ports were handed over */
    bool fresh;     /* of a loop: whether its last call returned a port */
    bool linked;    /* in handle.loops */
    struct batch *next;
};

struct handle {
    struct device device;
    int wake;   /* an eventfd: readable while the queue has events for anybody, and once closed */
    int watch;  /* an event loop's eventfd, or -1: told of events, of ends of bindings, of the end */
    bool awake; /* whether `wake` is readable */
    bool complete;       /* whether `bound` has all ports of the device */
    bool shared;         /* whether the device was adopted: another handle may have the same file */
    unsigned generation; /* of the process that opened it, see handle_is_inherited */
    uint64_t space;      /* equal for two handles in one domain */

    pthread_mutex_t lock;
    enum state state;
    uint32_t calls; /* under way; the last one releases a closed handle's device */
    uint32_t virqs; /* ports that are bound to a VIRQ */
    uint32_t stamp; /* of the next binding */
    uint32_t drops; /* how often events have been dropped by a reset or an unbind */
    struct ports bound;
    struct ports stale_ports; /* unbound here; the ring may still have their events, see unbind */
    struct ports reserved; /* whose events are for tasks: how many (first), and unbinds (second) */
    struct queue queue;
    struct batch *loops;

    struct handle *before, *after; /* in the list of all open handles */
};

/* -- life: handle.c -- */

/* Take over a device. Returns 0, CLOSED if another handle has it, or a negated errno; then the
 * device is as it was. */
int handle_take(struct handle *handle, struct device *device, uint64_t space);
/* Returns RAISED; or 1 the first time that a stale handle is closed, whose device stays open; or 0. */
int handle_close(struct handle *handle);
void handle_free(struct handle *handle);
/* Returns whether it is stale now: one without ports is not. */
bool handle_mark_stale(struct handle *handle);
bool handle_is_inherited(const struct handle *handle);
/* Returns 0, or why no call may be made. */
int handle_check(struct handle *handle);
int handle_fileno(struct handle *handle);
void handle_watch(struct handle *handle, int eventfd);

/* -- requests: requests.c -- */

int64_t handle_request(struct handle *handle, uint32_t number, uint32_t first, uint32_t second);
int64_t handle_bind(struct handle *handle, struct batch *batch, uint32_t number, uint32_t first,
                    uint32_t second);
int64_t handle_unbind(struct handle *handle, uint32_t port);
int64_t handle_notify(struct handle *handle, uint32_t port);
/* Stops at the first port that fails: the upper 32 bits are its errno, the lower how many were sent
 * before. */
int64_t handle_notify_many(struct handle *handle, const uint32_t *ports, uint32_t count);
int64_t handle_unmask(struct handle *handle, const uint32_t *ports, uint32_t count);
int64_t handle_unmask_one(struct handle *handle, uint32_t port);
int64_t handle_reset(struct handle *handle);
/* RESET, and unmask all ports. Returns how many there are; if that is more than the room, it has
 * done nothing. */
int64_t handle_recover(struct handle *handle, uint32_t *ports, uint32_t room);

/* The table of bound ports: how many entries there are, of which at most `room` are written. */
uint32_t handle_bindings(struct handle *handle, struct binding *entries, uint32_t room);
bool handle_binding(struct handle *handle, uint32_t port, struct binding *entry);
/* Returns which binding a port has; -1 for none. */
int64_t handle_stamp(struct handle *handle, uint32_t port);
/* Record a port that was bound elsewhere. */
void handle_tell(struct handle *handle, const struct binding *binding);
/* Returns whether another open handle in the same domain has the port. */
bool handle_held_elsewhere(struct handle *handle, uint32_t port);

/* -- events: events.c -- */

/* A deadline is in nanoseconds of CLOCK_MONOTONIC; 0: do not wait; -1: none.
 *
 * What these return: 0 for no event in time, a port if there is one event, MANY and how many if
 * there are more, which are then in the batch; a negated errno or a code. -EINTR: Python's signal
 * handlers must run; then call again, with nothing to unmask. */
#define MANY ((int64_t)1 << 32)

/* Unmask a port (0: none) and the batch's `done` ports; then wait for events, and take them. */
int64_t handle_wait(struct handle *handle, struct batch *batch, int64_t deadline, uint32_t most,
                    uint32_t unmask);
/* Return the next event of a loop, which is done with the ones before. */
int64_t handle_next(struct handle *handle, struct batch *batch, int64_t deadline);
/* End a loop: unmask what it is done with, and leave the rest to others. The last port that it
 * returned was handed over, or not. Returns 0 or an error. */
int64_t handle_leave(struct handle *handle, struct batch *batch, bool handed_over);
/* Undo what the caller of handle_wait, handle_bind or handle_take_port did not get. */
void handle_put_back(struct handle *handle, struct batch *batch);
/* Returns POLLIN, POLLERR, 0 or an error. */
int64_t handle_poll(struct handle *handle, int64_t deadline);

/* For tasks that wait for ports: reserve a port for one task more, or one less. Returns how often it
 * has been unbound since the first of them reserved it. */
uint32_t handle_reserve(struct handle *handle, uint32_t port, bool more);
uint32_t handle_unbinds(struct handle *handle, uint32_t port);
/* Unmask ports, and read the ring into the queue; return how many came. */
int64_t handle_pull(struct handle *handle, const uint32_t *unmask, uint32_t count);
/* Take all events of a port; return whether there were any. */
bool handle_take_port(struct handle *handle, struct batch *batch, uint32_t port);
/* The queue's ports: how many there are, of which at most `room` are written. */
uint32_t handle_queued(struct handle *handle, uint32_t *ports, uint32_t room);
/* Returns whether there are events that are not reserved. */
bool handle_has_free(struct handle *handle);

/* -- for the files above: the lock is held -- */

void changed(struct handle *handle); /* the queue or the state: wake those who wait */
void forget(struct handle *handle, uint32_t port);
int refusal(const struct handle *handle);
/* Begin a call of the driver; returns 0, or why there must be none. */
int enter(struct handle *handle);

/* -- for the files above: the lock is not held -- */

/* The same. */
int begin(struct handle *handle);
/* End a call of the driver; returns its result, or RAISED if that has closed the device. */
int64_t leave(struct handle *handle, int64_t result);

#endif

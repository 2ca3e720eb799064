/* The connections to the server.
 *
 * Each has one call at a time, so that threads and signal handlers never read another's answer. The
 * idle ones are kept in places, without a lock, which a signal handler could not take.
 */
#ifndef PYXENEVTCHN_LINES_H
#define PYXENEVTCHN_LINES_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

/* An open file of the fake, the same in all processes with descriptors of it; 0 is none. */
typedef uint32_t fake_file;

struct line {
    int fd; /* or -1 */
    struct place *place;
};

/* Returns whether the environment names a fake. */
bool lines_wanted(void);

/* Returns whether the memory is this process's own: a child by vfork uses its parent's. */
bool lines_are_ours(void);

/* Returns the file of a descriptor, from the name of its socket: the same for all descriptors of a
 * file, in all processes. */
fake_file line_file_of(int fd);

/* Connects to the server that the environment names; stores the domid that it names. */
int line_connect(unsigned *domid);

/* Makes a line of a connection about a file, in a place if one is free. */
struct line line_settle(fake_file file, int fd);

/* Takes a connection about the file of the descriptor: an idle one or a new one. EBADF if the
 * descriptor is no longer the file's. Only the answer to a call shows whether the server has it. */
struct line line_take(fake_file file, int fd);

/* Makes the connection idle again, or ends it if it cannot be kept. */
void line_give_back(fake_file file, int fd, struct line line);

/* Closes the connection; keeps errno. */
void line_hang_up(struct line line);

/* Sends CLOSE for a descriptor that was closed, waits for the server, closes the connection. */
void line_end(struct line line);

/* Ends the connections about a file, or about all files if that is 0: the idle ones now, the busy
 * ones when they have their answers. */
void lines_end(fake_file file);

#endif

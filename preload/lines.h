/* The connections to the server.
 *
 * One serves one call at a time, so that threads and signal handlers never meet another's answer.
 * The idle ones wait in places, where nobody needs a lock: a signal handler could not take one.
 */
#ifndef PYXENEVTCHN_LINES_H
#define PYXENEVTCHN_LINES_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

/* An open file of the fake, in whatever process its descriptors are; 0 is none. */
typedef uint32_t fake_file;

struct line {
    int fd; /* or -1 */
    struct place *place;
};

/* Tells whether the environment names a fake. */
bool lines_wanted(void);

/* Tells whether the memory is this process's own: a child by vfork uses its parent's. */
bool lines_are_ours(void);

/* Tells by its name which file a descriptor is of: all descriptors of a file have it in common, by
 * whatever process and in whatever way each was made. */
fake_file line_file_of(int fd);

/* Connects to the server that the environment names; gives the domain that it names. */
int line_connect(unsigned *domid);

/* Makes a connection about a file known. */
struct line line_settle(fake_file file, int fd);

/* Takes a connection about the file that the descriptor is of: an idle one or a new one. Whether
 * the server knows the file the answer to a call tells; EBADF where the descriptor is another's. */
struct line line_take(fake_file file, int fd);

/* Makes it an idle one again, if the descriptor is still of the file. */
void line_give_back(fake_file file, int fd, struct line line);

/* Closes it; leaves errno as it is. */
void line_hang_up(struct line line);

/* Says on it that a descriptor was closed, waits until the server knows, and closes it. */
void line_end(struct line line);

/* Ends those of a file, or of all files where that is 0: the idle ones now, the busy ones once they
 * have their answers. */
void lines_end(fake_file file);

#endif

/* A client of the shared fake, as file operations: pyxenevtchn/fake/server/protocol.py, in C.
 *
 * Each operation returns what its system call does: -1 with errno set if it fails. Any thread may
 * call any of them, in a signal handler and after a fork too. None accesses the program's memory
 * itself: the kernel does, so a bad address is EFAULT.
 */
#ifndef PYXENEVTCHN_FAKE_H
#define PYXENEVTCHN_FAKE_H

#include <stddef.h>
#include <sys/types.h>

#include "lines.h"

/* Returns whether the path is the device's, and the environment names a fake. */
bool is_device(const char *path);

/* The same for the path of the driver for hypercalls. */
bool is_privcmd(const char *path);

/* Opens the device that the environment names, with the flags of open(2). */
int fake_open(int flags);

/* Returns the file of a descriptor, or 0; keeps errno. */
fake_file fake_of(int fd);

/* Examines a descriptor that has just been made in any way. */
void fake_came(int fd);

int fake_ioctl(fake_file file, int fd, unsigned long request, const void *argument);
ssize_t fake_read(fake_file file, int fd, void *buffer, size_t size);
ssize_t fake_write(fake_file file, int fd, const void *buffer, size_t size);

/* Called before and after a close of a descriptor of a file. */
struct line fake_closing(fake_file file, int fd);
void fake_closed(fake_file file, struct line line);

/* Called before a close of many descriptors, of any kind. */
void fake_closing_many(void);

#endif

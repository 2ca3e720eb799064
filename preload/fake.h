/* A client of the shared fake, as file operations: pyxenevtchn/fake/server/protocol.py, in C.
 *
 * Each operation returns what its system call does: -1 with errno set, where it fails. Any thread
 * may call any of them, in a signal handler and after a fork too. None reads or writes the
 * program's memory: the kernel does it for them, and so a bad address is EFAULT.
 */
#ifndef PYXENEVTCHN_FAKE_H
#define PYXENEVTCHN_FAKE_H

#include <stddef.h>
#include <sys/types.h>

#include "lines.h"

/* Tells whether the path is the device's, and a fake of it is there. */
bool is_device(const char *path);

/* Tells whether the path is that of the driver for hypercalls, where there is a fake. */
bool is_privcmd(const char *path);

/* Opens the device that the environment names, with the flags of open(2). */
int fake_open(int flags);

/* Tells which file a descriptor is of; leaves errno as it is. */
fake_file fake_of(int fd);

/* Looks at a descriptor that has just been made in another way than by fake_open. */
void fake_came(int fd);

int fake_ioctl(fake_file file, int fd, unsigned long request, const void *argument);
ssize_t fake_read(fake_file file, int fd, void *buffer, size_t size);
ssize_t fake_write(fake_file file, int fd, const void *buffer, size_t size);

/* What a close of a descriptor of a file takes: this before it, and the other after it. */
struct line fake_closing(fake_file file, int fd);
void fake_closed(fake_file file, struct line line);

/* The same before a close of many, of whatever they are. */
void fake_closing_many(void);

#endif

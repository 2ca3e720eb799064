/* The functions that are exported here, in their versions of the next library: the C library, or
 * another preloaded object. */
#ifndef PYXENEVTCHN_NEXT_H
#define PYXENEVTCHN_NEXT_H

#define EXPORT __attribute__((visibility("default")))

#define FUNCTIONS(each)                                                                            \
    each(open) each(open64) each(openat) each(openat64)                                            \
    each(__open_2) each(__open64_2) each(__openat_2) each(__openat64_2)                            \
    each(ioctl) each(fcntl) each(fcntl64) each(dup) each(dup2) each(dup3)                          \
    each(read) each(__read_chk) each(readv) each(write) each(writev) each(recvmsg) each(recvmmsg)  \
    each(close) each(close_range) each(closefrom)                                                  \
    each(access) each(faccessat) each(euidaccess) each(eaccess)                                    \
    each(stat) each(stat64) each(lstat) each(lstat64) each(fstat) each(fstat64)                    \
    each(fstatat) each(fstatat64) each(statx)                                                      \
    each(__xstat) each(__xstat64) each(__lxstat) each(__lxstat64)                                  \
    each(__fxstat) each(__fxstat64) each(__fxstatat) each(__fxstatat64)

/* The numbers of the functions. */
enum next_function {
#define NEXT_NUMBER(name) NEXT_##name,
    FUNCTIONS(NEXT_NUMBER)
    NEXT_COUNT
};

void *next_function(enum next_function function);

#define NEXT(name) ((__typeof__(&name))next_function(NEXT_##name))

#endif

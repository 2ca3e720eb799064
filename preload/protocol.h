/* The calls of a file: see pyxenevtchn/fake/server/protocol.py. */
#ifndef PYXENEVTCHN_PROTOCOL_H
#define PYXENEVTCHN_PROTOCOL_H

#include <stdint.h>

/* The numbers of the calls that are not requests of the driver. */
enum { CALL_READ = 16, CALL_WAIT = 17, CALL_WRITE = 18, CALL_CLOSE = 21, CALL_UNDO = 22 };

struct call {
    uint32_t what, size;
};

struct answer {
    int32_t result;
    uint32_t size;
};

#endif

/* What is said about a file: see pyxenevtchn/fake/server/protocol.py. */
#ifndef PYXENEVTCHN_PROTOCOL_H
#define PYXENEVTCHN_PROTOCOL_H

#include <stdint.h>

/* What is called, besides the requests. */
enum { CALL_READ = 16, CALL_WAIT = 17, CALL_WRITE = 18, CALL_CLOSE = 21, CALL_UNDO = 22 };

struct call {
    uint32_t what, size;
};

struct answer {
    int32_t result;
    uint32_t size;
};

#endif

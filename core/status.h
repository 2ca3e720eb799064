#ifndef STATUS_H
#define STATUS_H

#include <stdint.h>

/* Make EVTCHNOP_status for the ports of a domain, from the first one to its last. Writes four words
 * for each: state, vCPU, and two for what it is bound to. Returns how many ports, or a negated
 * errno. */
int port_status(int privcmd, uint16_t domid, uint32_t first, uint32_t *words, uint32_t room);

#endif

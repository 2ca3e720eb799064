/* <xen/evtchn.h>, and what it lacks: distributions ship headers without BIND_STATIC (Linux 6.6), and
 * many machines have no header. The compiler checks every number, whoever defines it. */
#ifndef EVTCHN_H
#define EVTCHN_H

#include <stdint.h>
#include <sys/ioctl.h>

typedef uint16_t domid_t;

#if __has_include(<xen/evtchn.h>)
#include <xen/evtchn.h>
#else
#define IOCTL_EVTCHN_BIND_VIRQ \
    _IOC(_IOC_NONE, 'E', 0, sizeof(struct ioctl_evtchn_bind_virq))
struct ioctl_evtchn_bind_virq {
    unsigned int virq;
};

#define IOCTL_EVTCHN_BIND_INTERDOMAIN \
    _IOC(_IOC_NONE, 'E', 1, sizeof(struct ioctl_evtchn_bind_interdomain))
struct ioctl_evtchn_bind_interdomain {
    unsigned int remote_domain, remote_port;
};

#define IOCTL_EVTCHN_BIND_UNBOUND_PORT \
    _IOC(_IOC_NONE, 'E', 2, sizeof(struct ioctl_evtchn_bind_unbound_port))
struct ioctl_evtchn_bind_unbound_port {
    unsigned int remote_domain;
};

#define IOCTL_EVTCHN_UNBIND _IOC(_IOC_NONE, 'E', 3, sizeof(struct ioctl_evtchn_unbind))
struct ioctl_evtchn_unbind {
    unsigned int port;
};

#define IOCTL_EVTCHN_NOTIFY _IOC(_IOC_NONE, 'E', 4, sizeof(struct ioctl_evtchn_notify))
struct ioctl_evtchn_notify {
    unsigned int port;
};

#define IOCTL_EVTCHN_RESET _IOC(_IOC_NONE, 'E', 5, 0)
#endif

#ifndef IOCTL_EVTCHN_RESTRICT_DOMID
#define IOCTL_EVTCHN_RESTRICT_DOMID \
    _IOC(_IOC_NONE, 'E', 6, sizeof(struct ioctl_evtchn_restrict_domid))
struct ioctl_evtchn_restrict_domid {
    domid_t domid;
};
#endif

#ifndef IOCTL_EVTCHN_BIND_STATIC
#define IOCTL_EVTCHN_BIND_STATIC _IOC(_IOC_NONE, 'E', 7, sizeof(struct ioctl_evtchn_bind))
struct ioctl_evtchn_bind {
    unsigned int port;
};
#endif

_Static_assert(IOCTL_EVTCHN_BIND_VIRQ == 0x44500, "BIND_VIRQ");
_Static_assert(IOCTL_EVTCHN_BIND_INTERDOMAIN == 0x84501, "BIND_INTERDOMAIN");
_Static_assert(IOCTL_EVTCHN_BIND_UNBOUND_PORT == 0x44502, "BIND_UNBOUND_PORT");
_Static_assert(IOCTL_EVTCHN_UNBIND == 0x44503, "UNBIND");
_Static_assert(IOCTL_EVTCHN_NOTIFY == 0x44504, "NOTIFY");
_Static_assert(IOCTL_EVTCHN_RESET == 0x4505, "RESET");
_Static_assert(IOCTL_EVTCHN_RESTRICT_DOMID == 0x24506, "RESTRICT_DOMID");
_Static_assert(IOCTL_EVTCHN_BIND_STATIC == 0x44507, "BIND_STATIC");

#endif

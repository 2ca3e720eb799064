"""Build pyxenevtchn._ffi: the structs and numbers of <xen/evtchn.h>, and the functions of core/.

The names are the header's. cffi checks each struct against C's, and core/evtchn.h each number; both
take the system's header where there is one.
"""

from pathlib import Path

from cffi import FFI

# What a program may take from <xen/evtchn.h>.
HEADER = """
struct ioctl_evtchn_bind_virq { unsigned int virq; };
struct ioctl_evtchn_bind_interdomain { unsigned int remote_domain, remote_port; };
struct ioctl_evtchn_bind_unbound_port { unsigned int remote_domain; };
struct ioctl_evtchn_unbind { unsigned int port; };
struct ioctl_evtchn_notify { unsigned int port; };
struct ioctl_evtchn_restrict_domid { uint16_t domid; };
struct ioctl_evtchn_bind { unsigned int port; };

#define IOCTL_EVTCHN_BIND_VIRQ ...
#define IOCTL_EVTCHN_BIND_INTERDOMAIN ...
#define IOCTL_EVTCHN_BIND_UNBOUND_PORT ...
#define IOCTL_EVTCHN_UNBIND ...
#define IOCTL_EVTCHN_NOTIFY ...
#define IOCTL_EVTCHN_RESET ...
#define IOCTL_EVTCHN_RESTRICT_DOMID ...
#define IOCTL_EVTCHN_BIND_STATIC ...
"""

# core/*.h say what each is; here is only what Python uses.
CORE = """
enum { PAGE_PORTS = 1024 };
enum { RAISED = -1001, CLOSED = -1002, CLOSED_MEANWHILE = -1003, STALE = -1004, INHERITED = -1005,
       HAS_VIRQ = -1006, HELD = -1007 };
enum state { IS_CLOSED, IS_OPEN, IS_STALE, IS_CLOSED_STALE };

struct driver;
struct device { const struct driver *driver; int fd; bool owned; ...; };
struct handle { struct device device; bool complete, shared; enum state state; ...; };
struct batch { uint32_t count, done, bound, ports[1024]; ...; };
struct binding { uint32_t port, request, first, second; bool leaving; ...; };

int device_open(struct device *, const char *path, int flags);
int device_adopt(struct device *, int fd);
int64_t device_request(struct device *, uint32_t number, uint32_t first, uint32_t second);
int device_release(struct device *);
void device_python(struct device *, uintptr_t file, int fd);
void device_end_python(void);
extern "Python+C" {
    int64_t python_request(uintptr_t file, uint32_t number, uint32_t first, uint32_t second);
    int python_read(uintptr_t file, uint32_t *ports, uint32_t room);
    int python_write(uintptr_t file, const uint32_t *ports, uint32_t count);
    int python_release(uintptr_t file, bool owned);
}

int handle_take(struct handle *, struct device *, uint64_t space);
int handle_close(struct handle *);
void handle_free(struct handle *);
bool handle_mark_stale(struct handle *);
bool handle_is_inherited(const struct handle *);
int handle_check(struct handle *);
int handle_fileno(struct handle *);
void handle_watch(struct handle *, int eventfd);

int64_t handle_request(struct handle *, uint32_t number, uint32_t first, uint32_t second);
int64_t handle_bind(struct handle *, struct batch *, uint32_t number, uint32_t first,
                    uint32_t second);
int64_t handle_unbind(struct handle *, uint32_t port);
int64_t handle_notify(struct handle *, uint32_t port);
int64_t handle_notify_many(struct handle *, const uint32_t *ports, uint32_t count);
int64_t handle_unmask(struct handle *, const uint32_t *ports, uint32_t count);
int64_t handle_unmask_one(struct handle *, uint32_t port);
int64_t handle_reset(struct handle *);
int64_t handle_recover(struct handle *, uint32_t *ports, uint32_t room);
uint32_t handle_bindings(struct handle *, struct binding *entries, uint32_t room);
bool handle_binding(struct handle *, uint32_t port, struct binding *entry);
int64_t handle_stamp(struct handle *, uint32_t port);
void handle_tell(struct handle *, const struct binding *);
bool handle_held_elsewhere(struct handle *, uint32_t port);

int64_t handle_wait(struct handle *, struct batch *, int64_t deadline, uint32_t most,
                    uint32_t unmask);
int64_t handle_next(struct handle *, struct batch *, int64_t deadline);
int64_t handle_leave(struct handle *, struct batch *, bool handed_over);
void handle_put_back(struct handle *, struct batch *);
int64_t handle_poll(struct handle *, int64_t deadline);
uint32_t handle_reserve(struct handle *, uint32_t port, bool more);
uint32_t handle_unbinds(struct handle *, uint32_t port);
int64_t handle_pull(struct handle *, const uint32_t *unmask, uint32_t count);
bool handle_take_port(struct handle *, struct batch *, uint32_t port);
uint32_t handle_queued(struct handle *, uint32_t *ports, uint32_t room);
bool handle_has_free(struct handle *);

struct descriptor { int fd; };
int descriptor_open(struct descriptor *, const char *path, int flags);
int descriptor_duplicate(struct descriptor *, int fd, bool cloexec);
int descriptor_eventfd(struct descriptor *);
int descriptor_clock(struct descriptor *);
void descriptor_close(struct descriptor *);

int port_status(int privcmd, uint16_t domid, uint32_t first, uint32_t *words, uint32_t room);
"""

SOURCE = """
#include "descriptor.h"
#include "evtchn.h"
#include "handle.h"
#include "status.h"
"""

ffibuilder = FFI()
ffibuilder.cdef(HEADER + CORE)
ffibuilder.set_source(
    "pyxenevtchn._ffi",
    SOURCE,
    sources=sorted(map(str, Path("core").glob("*.c"))),
    depends=sorted(map(str, Path("core").glob("*.h"))),
    include_dirs=["core"],
    extra_compile_args=["-std=gnu11", "-fvisibility=hidden"],
)

if __name__ == "__main__":
    ffibuilder.compile(verbose=True)

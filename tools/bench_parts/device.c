/* A C program's calls on the device, by libxenevtchn, and on another file.
 *
 * Reads a case and a number from each line, and answers with the nanoseconds per operation:
 *
 *   cycle N    notify, poll, pending, unmask, from one handle to another
 *   open N     open and close a handle
 *   read N     read 8 bytes of /dev/zero
 *
 * Without arguments it opens no handle, and has no `cycle`.
 */
#include <fcntl.h>
#include <poll.h>
#include <string.h>
#include <unistd.h>
#include <xenevtchn.h>

#include "bench.h"

static xenevtchn_handle *near, *far;
static int near_port, far_port;

static void take(void)
{
    need(xenevtchn_pending(far) == far_port, "pending");
    need(xenevtchn_unmask(far, far_port) == 0, "unmask");
}

static void connect_pair(void)
{
    near = xenevtchn_open(NULL, 0);
    far = xenevtchn_open(NULL, 0);
    need(near && far, "open");
    near_port = xenevtchn_bind_unbound_port(near, SELF);
    far_port = xenevtchn_bind_interdomain(far, SELF, near_port);
    take();
}

static void cycle(void)
{
    struct pollfd one = { xenevtchn_fd(far), POLLIN, 0 };
    need(xenevtchn_notify(near, near_port) == 0, "notify");
    need(poll(&one, 1, 1000) == 1, "poll");
    take();
}

static void open_and_close(void)
{
    xenevtchn_handle *handle = xenevtchn_open(NULL, 0);
    need(handle && xenevtchn_close(handle) == 0, "open");
}

static int zero;

static void read_some(void)
{
    char some[8];
    need(read(zero, some, sizeof some) == sizeof some, "read");
}

int main(int count, char **arguments)
{
    char name[32];
    int number;
    (void)arguments;
    zero = open("/dev/zero", O_RDONLY);
    if (count > 1)
        connect_pair();
    while (scanf("%31s %d", name, &number) == 2) {
        void (*operation)(void) = !strcmp(name, "cycle")  ? cycle
                                  : !strcmp(name, "open") ? open_and_close
                                                          : read_some;
        long long start = now();
        for (int i = 0; i < number; i++)
            operation();
        printf("%.1f\n", (double)(now() - start) / number);
        fflush(stdout);
    }
    return 0;
}

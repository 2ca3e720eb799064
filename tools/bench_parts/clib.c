/* The C library's side of the benchmarks: one loopback pair or many, on libxenevtchn.
 *
 * Reads a case and a number from each line, and answers with the nanoseconds per operation:
 *
 *   pairs N        connects N pairs on one handle and closes them     per pair
 *   setup N        connects N pairs on one handle, for the cases below
 *   event N        N events over the first pair: notify, take, unmask per event
 *   notify N       notifies the first N pairs, one after the other    per port
 *   drain N        reads and unmasks N events, one after the other    per port
 */
#include <string.h>
#include <xenevtchn.h>

#include "bench.h"

#define MOST 4096

struct pair {
    int near, far;
};

static struct pair pairs[MOST];

static int take(xenevtchn_handle *handle)
{
    int port = xenevtchn_pending(handle);
    need(port > 0, "pending");
    need(xenevtchn_unmask(handle, port) == 0, "unmask");
    return port;
}

static struct pair connect_pair(xenevtchn_handle *handle)
{
    struct pair pair;
    pair.near = xenevtchn_bind_unbound_port(handle, SELF);
    need(pair.near > 0, "bind_unbound_port");
    pair.far = xenevtchn_bind_interdomain(handle, SELF, pair.near);
    need(pair.far > 0, "bind_interdomain");
    return pair;
}

static xenevtchn_handle *open_handle(void)
{
    xenevtchn_handle *handle = xenevtchn_open(NULL, 0);
    need(handle != NULL, "open");
    return handle;
}

int main(void)
{
    char name[32];
    int number;
    xenevtchn_handle *handle = NULL;

    while (scanf("%31s %d", name, &number) == 2) {
        need(number > 0 && number <= 1000000, "a number from 1 to 1000000");
        long long start = now();
        if (!strcmp(name, "pairs")) {
            xenevtchn_handle *own = open_handle();
            for (int i = 0; i < number; i++)
                connect_pair(own);
            need(xenevtchn_close(own) == 0, "close");
        } else if (!strcmp(name, "setup")) {
            need(number <= MOST, "at most 4096 pairs");
            if (handle)
                xenevtchn_close(handle);
            handle = open_handle();
            for (int i = 0; i < number; i++) {
                pairs[i] = connect_pair(handle);
                take(handle);
            }
        } else if (!strcmp(name, "event")) {
            for (int i = 0; i < number; i++) {
                need(xenevtchn_notify(handle, pairs[0].near) == 0, "notify");
                take(handle);
            }
        } else if (!strcmp(name, "notify")) {
            for (int i = 0; i < number; i++)
                need(xenevtchn_notify(handle, pairs[i].near) == 0, "notify");
        } else if (!strcmp(name, "drain")) {
            for (int i = 0; i < number; i++)
                take(handle);
        } else {
            fprintf(stderr, "unknown case %s\n", name);
            return 2;
        }
        printf("%.1f\n", (double)(now() - start) / number);
        fflush(stdout);
    }
    return 0;
}

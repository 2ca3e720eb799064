/* Blocking round trips between two domains, on libxenevtchn.
 *
 * round_trips offer DOMID N          allocates a port for a domain, prints its number, and sends N
 *                                    events, each after the answer to the last one
 * round_trips answer DOMID PORT N    connects to that port and answers them
 */
#include <xenevtchn.h>

#include "../device.h"

static void take_and_unmask(xenevtchn_handle *handle, int port)
{
    NEED(xenevtchn_pending(handle) == port);
    NEED(xenevtchn_unmask(handle, port) == 0);
}

int main(int count, char **arguments)
{
    xenevtchn_handle *handle = xenevtchn_open(NULL, 0);
    NEED(handle);
    int times = atoi(arguments[count - 1]), offers = !strcmp(arguments[1], "offer"), port;
    if (offers) {
        port = xenevtchn_bind_unbound_port(handle, atoi(arguments[2]));
        printf("%d\n", port);
        fflush(stdout);
    } else {
        port = xenevtchn_bind_interdomain(handle, atoi(arguments[2]), atoi(arguments[3]));
        NEED(xenevtchn_notify(handle, port) == 0); /* the other side may begin */
    }
    NEED(port > 0);
    take_and_unmask(handle, port);
    for (int i = 0; i < times; i++) {
        if (!offers)
            take_and_unmask(handle, port);
        NEED(xenevtchn_notify(handle, port) == 0);
        if (offers)
            take_and_unmask(handle, port);
    }
    return xenevtchn_close(handle) != 0;
}

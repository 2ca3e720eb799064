/* One end of a channel, with libxenevtchn.
 *
 * peer echo PORT N    connects to PORT of its own domain and answers N events
 * peer send N         allocates a port and prints its number; after the first event,
 *                     sends N events and waits for an answer to each
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <xenevtchn.h>

#define SELF 0x7FF0

static void need(int ok, const char *what)
{
    if (!ok) {
        perror(what);
        exit(1);
    }
}

static void take(xenevtchn_handle *handle, int port)
{
    need(xenevtchn_pending(handle) == port, "pending");
    need(xenevtchn_unmask(handle, port) == 0, "unmask");
}

static void say(const char *format, int number)
{
    printf(format, number);
    fflush(stdout);
}

int main(int count, char **arguments)
{
    xenevtchn_handle *handle = xenevtchn_open(NULL, 0);
    need(handle != NULL, "open");
    if (count == 4 && !strcmp(arguments[1], "echo")) {
        int port = xenevtchn_bind_interdomain(handle, SELF, atoi(arguments[2]));
        need(port > 0, "bind_interdomain");
        take(handle, port); /* the event that a connecting port starts with */
        say("connected\n", 0);
        for (int i = atoi(arguments[3]); i > 0; i--) {
            take(handle, port);
            need(xenevtchn_notify(handle, port) == 0, "notify");
        }
    } else if (count == 3 && !strcmp(arguments[1], "send")) {
        int number = atoi(arguments[2]);
        int port = xenevtchn_bind_unbound_port(handle, SELF);
        need(port > 0, "bind_unbound_port");
        say("%d\n", port);
        take(handle, port);
        for (int i = 0; i < number; i++) {
            need(xenevtchn_notify(handle, port) == 0, "notify");
            take(handle, port);
        }
        say("%d echoes\n", number);
    } else {
        fprintf(stderr, "usage: peer echo PORT N | peer send N\n");
        return 2;
    }
    return xenevtchn_close(handle) != 0;
}

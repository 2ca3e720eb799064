/*
 * The echo guest's process, at the other ends of two static event channels: send every event of one
 * back, and send an event on the other each second.
 */
#include <fcntl.h>
#include <poll.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <unistd.h>

#define NOTIFY _IOC(_IOC_NONE, 'E', 4, 4)
#define BIND_STATIC _IOC(_IOC_NONE, 'E', 7, 4)

static void die_unless(int succeeded)
{
    if (!succeeded) {
        perror("echo");
        exit(1);
    }
}

int main(void)
{
    uint32_t port, echo = 10, tick = 11;
    struct pollfd device = {open("/dev/xen/evtchn", O_RDWR | O_CLOEXEC), POLLIN, 0};

    die_unless(device.fd >= 0);
    die_unless(ioctl(device.fd, BIND_STATIC, &echo) == 0);
    die_unless(ioctl(device.fd, BIND_STATIC, &tick) == 0);
    for (;;) {
        int ready = poll(&device, 1, 1000);

        die_unless(ready >= 0);
        if (!ready) {
            die_unless(ioctl(device.fd, NOTIFY, &tick) == 0);
            continue;
        }
        die_unless(read(device.fd, &port, sizeof port) == sizeof port);
        /* Unmask first: the peer's next event may come as soon as this one is sent back. */
        die_unless(write(device.fd, &port, sizeof port) == sizeof port);
        if (port == echo)
            die_unless(ioctl(device.fd, NOTIFY, &port) == 0);
    }
}

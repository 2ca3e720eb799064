/*
 * The process of the guest at the other ends of static event channels: sends every event back, and
 * one of its own on another channel each second.
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
        /* Unmasked first: the answer to what is sent here may come at once. */
        die_unless(write(device.fd, &port, sizeof port) == sizeof port);
        if (port == echo)
            die_unless(ioctl(device.fd, NOTIFY, &port) == 0);
    }
}

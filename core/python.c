/* A driver in Python: cffi makes these functions of Python's. */
#include <stdbool.h>
#include <stdint.h>

#include "device.h"

int64_t python_request(uintptr_t file, uint32_t number, uint32_t first, uint32_t second);
int python_read(uintptr_t file, uint32_t *ports, uint32_t room);
int python_write(uintptr_t file, const uint32_t *ports, uint32_t count);
int python_release(uintptr_t file, bool owned);

static bool ended;

static int release(uintptr_t file, bool owned)
{
    /* Python's modules may be empty by now; the descriptors end with the process. */
    return ended ? 0 : python_release(file, owned);
}

static const struct driver python = { python_request, python_read, python_write, release };

void device_python(struct device *device, uintptr_t file, int fd)
{
    *device = (struct device){ &python, file, fd, false };
}

void device_end_python(void)
{
    ended = true;
}

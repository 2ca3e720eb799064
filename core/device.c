#include "device.h"

#include <stddef.h>

int64_t device_request(struct device *device, uint32_t number, uint32_t first, uint32_t second)
{
    return device->driver ? device->driver->request(device->file, number, first, second) : CLOSED;
}

int device_release(struct device *device)
{
    const struct driver *driver = device->driver;
    device->driver = NULL;
    return driver ? driver->release(device->file, device->owned) : 0;
}

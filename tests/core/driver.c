#include "driver.h"

#include <errno.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

static struct file *start_call(uintptr_t number)
{
    struct file *file = (struct file *)number;
    pthread_mutex_lock(&file->lock);
    NEED(file->released == 0);
    file->calls++;
    return file;
}

static int64_t end_call(struct file *file, int64_t result)
{
    file->calls--;
    pthread_mutex_unlock(&file->lock);
    return result;
}

static uint32_t peer(uint32_t port)
{
    return port % 2 ? port + 1 : port - 1;
}

static void raise_event(struct file *file, uint32_t port)
{
    if (!file->bound[port])
        return;
    if (file->masked[port]) {
        file->pending[port] = true;
        return;
    }
    file->masked[port] = true;
    if (file->count == 0)
        eventfd_write(file->fd, 1);
    NEED(file->count < MOST_PORTS);
    file->ring[file->count++] = port;
}

static int64_t request(uintptr_t number, uint32_t request, uint32_t first, uint32_t second)
{
    (void)second;
    struct file *file = start_call(number);
    if (file->during) {
        pthread_mutex_unlock(&file->lock);
        file->during(file);
        pthread_mutex_lock(&file->lock);
    }
    uint32_t port = 1;
    switch (request) {
    case BIND_STATIC:
        if (file->bound[first])
            return end_call(file, -EISCONN);
        file->bound[first] = true;
        return end_call(file, 0);
    case UNBIND:
        if (!file->bound[first])
            return end_call(file, -ENOTCONN);
        file->bound[first] = file->masked[first] = file->pending[first] = false;
        return end_call(file, 0);
    case NOTIFY:
        if (!file->bound[first])
            return end_call(file, -ENOTCONN);
        raise_event(file, peer(first));
        return end_call(file, 0);
    case RESET:
        file->count = 0;
        return end_call(file, 0);
    default:
        while (file->bound[port])
            port++;
        NEED(port < MOST_PORTS);
        file->bound[port] = true;
        return end_call(file, port);
    }
}

static int read_events(uintptr_t number, uint32_t *ports, uint32_t room)
{
    struct file *file = start_call(number);
    uint32_t count = file->count < room ? file->count : room;
    if (!count)
        return end_call(file, -EAGAIN);
    memcpy(ports, file->ring, count * sizeof *ports);
    file->count -= count;
    memmove(file->ring, file->ring + count, file->count * sizeof *ports);
    eventfd_t drained;
    if (!file->count)
        eventfd_read(file->fd, &drained);
    return end_call(file, count);
}

static int write_ports(uintptr_t number, const uint32_t *ports, uint32_t count)
{
    struct file *file = start_call(number);
    for (uint32_t i = 0; i < count; i++) {
        if (!file->bound[ports[i]] || !file->masked[ports[i]])
            continue;
        file->masked[ports[i]] = false;
        if (file->pending[ports[i]]) {
            file->pending[ports[i]] = false;
            raise_event(file, ports[i]);
        }
    }
    return end_call(file, 0);
}

static int release(uintptr_t number, bool owned)
{
    struct file *file = (struct file *)number;
    pthread_mutex_lock(&file->lock);
    NEED(owned && file->calls == 0 && file->released == 0);
    file->released++;
    pthread_mutex_unlock(&file->lock);
    return 0;
}

static const struct driver driver = { request, read_events, write_ports, release };

struct file *file_open(void)
{
    struct file *file = calloc(1, sizeof *file);
    NEED(file);
    pthread_mutex_init(&file->lock, NULL);
    file->fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    NEED(file->fd >= 0);
    return file;
}

void file_free(struct file *file)
{
    close(file->fd);
    free(file);
}

void attach(struct handle *handle, struct file *file)
{
    struct device device = { &driver, (uintptr_t)file, file->fd, true };
    memset(handle, 0, sizeof *handle);
    NEED(handle_take(handle, &device, 0) == 0);
    NEED(handle_take(handle, &device, 0) == CLOSED);
}

int run_case(const struct test *tests, int argc, char **argv)
{
    for (; argc == 2 && tests->name; tests++)
        if (strcmp(tests->name, argv[1]) == 0) {
            tests->run();
            return 0;
        }
    fprintf(stderr, "no such case\n");
    return 2;
}

void start(pthread_t *thread, void *(*run)(void *), void *argument)
{
    NEED(pthread_create(thread, NULL, run, argument) == 0);
}

void end(pthread_t thread)
{
    NEED(pthread_join(thread, NULL) == 0);
}

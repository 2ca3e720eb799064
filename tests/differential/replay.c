/* Make recorded calls on the driver, and compare the answers with the recorded ones.
 *
 * usage: replay FOLDER SEQUENCES
 *
 * recording.py writes the files record-0, record-1, ... to the folder while this reads and removes
 * them. They are unsigned integers of 32 bits; each call is its number and:
 *
 *   OPEN      descriptor
 *   DUP       descriptor, new descriptor
 *   CLOSE     descriptor
 *   IOCTL     descriptor, request, two arguments, result
 *   READ      descriptor, size, result: how many ports, ports
 *   WRITE     descriptor, size, the bytes padded to a multiple of four, result
 *   POLL      descriptor, events
 *   SETTLE
 *   SEQUENCE  number
 *
 * A result may be a negated errno. Descriptors and ports are the recorder's: which is which here is
 * known from the calls that open and bind.
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <unistd.h>

enum { OPEN, DUP, CLOSE, IOCTL, READ, WRITE, POLL, SETTLE, SEQUENCE };
enum { BIND_VIRQ, BIND_INTERDOMAIN, BIND_UNBOUND_PORT, UNBIND, NOTIFY, RESET, RESTRICT, BIND_STATIC };

/* From <xen/evtchn.h>: _IOC(_IOC_NONE, 'E', number, size of the struct). */
static const unsigned long REQUESTS[] = {
    [BIND_VIRQ] = 0x44500, [BIND_INTERDOMAIN] = 0x84501, [BIND_UNBOUND_PORT] = 0x44502,
    [UNBIND] = 0x44503,    [NOTIFY] = 0x44504,           [RESET] = 0x4505,
    [RESTRICT] = 0x24506,  [BIND_STATIC] = 0x44507,
};

enum { DESCRIPTORS = 16, PORTS = 131072, BYTES = 8192, FREE_PORT = 4000, SECONDS = 100 };
static const uint32_t DOMID_SELF = 0x7FF0;

static int fence = -1, fds[DESCRIPTORS];
/* The port here by the recorder's, and the reverse; 0 if it was never bound. */
static uint32_t here[PORTS], there[PORTS];
/* Whether all events that were sent have arrived. */
static int is_settled;
static uint32_t sequence;
static unsigned long calls;

static _Noreturn void end(const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    printf("sequence %u, call %lu: ", sequence, calls);
    vprintf(format, arguments);
    printf("\n");
    exit(1);
}

static void same(const char *what, uint32_t driver, uint32_t fake)
{
    if (driver != fake) end("%s: the driver answered %d, the fake %d", what, driver, fake);
}

static uint32_t result(long value)
{
    return (uint32_t)(value < 0 ? -errno : value);
}

static uint32_t port_here(uint32_t port)
{
    return port < PORTS && here[port] ? here[port] : port;
}

static int open_file(void)
{
    int fd = open("/dev/xen/evtchn", O_RDWR | O_NONBLOCK | O_CLOEXEC);
    if (fd < 0) end("open: %s", strerror(errno));
    return fd;
}

/* Wait until the events that were sent so far have arrived: that of a connected pair comes last.
 *
 * Only before calls that show events: on one vCPU they arrive as they are sent, and this takes most
 * of the time. */
static void settle(void)
{
    static uint32_t near, far;
    if (is_settled) return;
    is_settled = 1;
    if (fence < 0) {
        fence = open_file();
        near = (uint32_t)ioctl(fence, REQUESTS[BIND_UNBOUND_PORT], &DOMID_SELF);
        uint32_t peer[] = {DOMID_SELF, near};
        far = (uint32_t)ioctl(fence, REQUESTS[BIND_INTERDOMAIN], peer);
    } else {
        ioctl(fence, REQUESTS[NOTIFY], &near);
    }
    struct pollfd waiting = {.fd = fence, .events = POLLIN};
    if (poll(&waiting, 1, SECONDS * 1000) != 1) end("no event came");
    uint32_t came[2];
    if (read(fence, came, sizeof came) != sizeof far || came[0] != far) end("another event came");
    if (write(fence, &far, sizeof far) != sizeof far) end("unmask: %s", strerror(errno));
}

static void request(int fd, uint32_t name, const uint32_t arguments[2], uint32_t recorded)
{
    uint32_t fields[] = {arguments[0], arguments[1]};
    if (name == BIND_INTERDOMAIN) fields[1] = port_here(fields[1]);
    if (name == UNBIND || name == NOTIFY || name == BIND_STATIC) fields[0] = port_here(fields[0]);
    uint16_t domid = (uint16_t)fields[0];
    uint32_t answer = result(ioctl(fd, REQUESTS[name], name == RESTRICT ? (void *)&domid : fields));
    if (name <= BIND_UNBOUND_PORT && (int32_t)answer > 0 && (int32_t)recorded > 0) {
        /* Both sides give their lowest free port: which ports correspond never changes. */
        if (!here[recorded] && !there[answer]) here[recorded] = answer, there[answer] = recorded;
        same("bind", answer, here[recorded]);
    } else {
        same("request", answer, recorded);
    }
}

/* Make a call; return the words after it. */
static const uint32_t *make(const uint32_t *word)
{
    static unsigned char bytes[BYTES];
    static uint32_t ports[BYTES / 4];
    uint32_t call = *word++;
    calls++;
    switch (call) {
    case SEQUENCE:
        sequence = word[0];
        return word + 1;
    case SETTLE:
        is_settled = 0;
        return word;
    case OPEN:
        fds[word[0]] = open_file();
        return word + 1;
    case DUP:
        fds[word[1]] = dup(fds[word[0]]);
        return word + 2;
    case CLOSE:
        close(fds[word[0]]);
        return word + 1;
    case IOCTL:
        request(fds[word[0]], word[1], word + 2, word[4]);
        return word + 5;
    case POLL: {
        settle();
        struct pollfd one = {.fd = fds[word[0]], .events = POLLIN};
        poll(&one, 1, 0);
        same("poll", (uint32_t)one.revents, word[1]);
        return word + 2;
    }
    case READ: {
        settle();
        uint32_t size = word[1], count = word[2];
        uint32_t answer = result(read(fds[word[0]], ports, size));
        int is_error = (int32_t)answer < 0;
        same("read", is_error ? answer : answer / 4, count);
        if (is_error) return word + 3;
        for (uint32_t i = 0; i < count; i++) same("read", ports[i], port_here(word[3 + i]));
        return word + 3 + count;
    }
    case WRITE: {
        uint32_t size = word[1], count = size / 4;
        for (uint32_t i = 0; i < count; i++) ports[i] = port_here(word[2 + i]);
        memcpy(bytes, ports, count * 4);
        memset(bytes + count * 4, 0, size % 4);
        const uint32_t *after = word + 2 + (size + 3) / 4;
        same("write", result(write(fds[word[0]], bytes, size)), *after);
        return after + 1;
    }
    default:
        end("no such call: %u", call);
    }
}

/* Replay a record; return 0 if it does not exist yet. */
static int replay(const char *path)
{
    int fd = open(path, O_RDONLY);
    if (fd < 0) return 0;
    struct stat status;
    fstat(fd, &status);
    size_t size = (size_t)status.st_size, done = 0;
    uint32_t *words = malloc(size);
    if (!words) end("no memory");
    while (done < size) {
        ssize_t more = read(fd, (char *)words + done, size - done);
        if (more <= 0) end("%s is cut off", path);
        done += (size_t)more;
    }
    close(fd);
    unlink(path);
    for (const uint32_t *word = words; word < words + size / 4;) word = make(word);
    free(words);
    return 1;
}

int main(int count, char **arguments)
{
    if (count != 3) {
        fprintf(stderr, "usage: replay FOLDER SEQUENCES\n");
        return 2;
    }
    setlinebuf(stdout);
    /* Bind the fence's ports before any other: one that is bound later can take a number between. */
    settle();
    /* Show the kernel the highest port; Linux has BIND_STATIC since 6.6. */
    int fd = open_file();
    uint32_t highest = FREE_PORT;
    ioctl(fd, REQUESTS[BIND_STATIC], &highest);
    close(fd);
    uint32_t last = (uint32_t)atoi(arguments[2]) - 1;
    int file = 0;
    do {
        char path[4096];
        snprintf(path, sizeof path, "%s/record-%d", arguments[1], file++);
        for (int waits = 0; !replay(path); waits++) {
            if (waits == SECONDS * 10) end("%s did not come", path);
            usleep(100000);
        }
        printf("%u sequences, %lu calls, no difference\n", sequence + 1, calls);
    } while (sequence < last);
    close(fence);
    return 0;
}

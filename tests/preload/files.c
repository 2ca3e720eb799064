/* One process with the device and its descriptors. */
#include "device.h"

#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/uio.h>

static void events_come_and_go(void)
{
    struct pair pair = open_pair(0);
    NEED(poll_of(pair.far, 0) == POLLOUT);
    notify(pair.near, pair.near_port);
    NEED(poll_of(pair.far, 0) == (POLLIN | POLLOUT));
    NEED(take(pair.far) == pair.far_port);
    NEED(poll_of(pair.far, 0) == POLLOUT);
    notify(pair.near, pair.near_port);
    NEED(poll_of(pair.far, 0) == POLLOUT); /* it is masked */
    unmask(pair.far, pair.far_port);
    NEED(take(pair.far) == pair.far_port);
    NEED(request(pair.near, UNBIND, pair.near_port) == 0);
    NEED(request(pair.near, UNBIND, pair.near_port) == -1 && errno == ENOTCONN);
    NEED(ioctl(pair.far, RESET) == 0);
    close_pair(pair);
}

static void sizes_are_the_drivers(void)
{
    uint32_t ports[2000] = { 0 };
    int fd = open_device(O_NONBLOCK);
    for (size_t size = 0; size < 4; size++)
        NEED(read(fd, ports, size) == 0 && write(fd, ports, size) == 0);
    NEED(read(fd, ports, 7) == -1 && errno == EAGAIN);
    NEED(write(fd, ports, 7) == 4);
    NEED(write(fd, ports, 5000) == sysconf(_SC_PAGESIZE));
    NEED(close(fd) == 0);
    /* Several pieces are taken one by one, until one is taken only in part. */
    struct pair pair = open_pair(O_NONBLOCK);
    struct iovec pieces[] = { { ports, 4 }, { ports + 1, 4 }, { ports + 2, 6 } };
    notify(pair.near, pair.near_port);
    unmask(pair.far, pair.far_port);
    NEED(readv(pair.far, pieces, 3) == 4 && ports[0] == pair.far_port);
    NEED(writev(pair.far, pieces, 3) == 12);
    NEED(readv(pair.far, pieces, 3) == -1 && errno == EAGAIN);
    close_pair(pair);
}

static void bad_requests_and_seeks_are_refused(void)
{
    int fd = open_device(0);
    uint32_t words[2] = { 0 };
    NEED(ioctl(fd, _IOC(_IOC_NONE, 'E', 8, 4), words) == -1 && errno == ENOSYS);
    NEED(ioctl(fd, _IOC(_IOC_NONE, 'E', 4, 8), words) == -1 && errno == ENOSYS);
    NEED(ioctl(fd, _IOC(_IOC_READ, 'E', 4, 4), words) == -1 && errno == ENOSYS);
    NEED(ioctl(fd, FIONREAD, words) == -1 && errno == ENOSYS);
    NEED(ioctl(fd, BIND_VIRQ, words) == -1 && errno == EEXIST);
    NEED(lseek(fd, 0, SEEK_SET) == -1 && errno == ESPIPE);
    NEED(pread(fd, words, 4, 0) == -1 && errno == ESPIPE);
    NEED(close(fd) == 0);
}

static void a_fault_takes_no_event(void)
{
    size_t page = sysconf(_SC_PAGESIZE);
    char *memory = mmap(NULL, 2 * page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    NEED(memory != MAP_FAILED && mprotect(memory + page, page, PROT_NONE) == 0);
    void *bad[] = { NULL, memory + page, memory + page - 2 };
    struct pair pair = open_pair(0);
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        NEED(ioctl(pair.near, NOTIFY, bad[i]) == -1 && errno == EFAULT);
        NEED(write(pair.far, bad[i], 4) == -1 && errno == EFAULT);
        notify(pair.near, pair.near_port);
        NEED(read(pair.far, bad[i], 4) == -1 && errno == EFAULT);
        NEED(poll_of(pair.far, 0) == (POLLIN | POLLOUT));
        NEED(take(pair.far) == pair.far_port);
        unmask(pair.far, pair.far_port);
    }
    NEED(mprotect(memory, page, PROT_READ) == 0);
    notify(pair.near, pair.near_port);
    NEED(read(pair.far, memory, 4) == -1 && errno == EFAULT);
    NEED(take(pair.far) == pair.far_port);
    close_pair(pair);
}

static void every_open_opens_it(void)
{
    int lowest = dup(0), flags = O_RDWR | O_CLOEXEC | O_NONBLOCK, fds[4];
    NEED(close(lowest) == 0);
    fds[0] = open(DEVICE, flags);
    fds[1] = openat(AT_FDCWD, DEVICE, flags);
    fds[2] = open64(DEVICE, flags);
    fds[3] = openat64(0, DEVICE, flags);
    for (int i = 0; i < 4; i++) {
        NEED(fds[i] == lowest + i);
        NEED(fcntl(fds[i], F_GETFD) == FD_CLOEXEC && fcntl(fds[i], F_GETFL) & O_NONBLOCK);
    }
    int plain = open_device(0);
    NEED(fcntl(plain, F_GETFD) == 0 && !(fcntl(plain, F_GETFL) & O_NONBLOCK));
    NEED(ioctl(plain, FIOCLEX) == 0 && fcntl(plain, F_GETFD) == FD_CLOEXEC);
    int on = 1;
    NEED(ioctl(plain, FIONBIO, &on) == 0 && read(plain, &on, 4) == -1 && errno == EAGAIN);
    NEED(close(plain) == 0);
    for (int i = 0; i < 4; i++)
        NEED(close(fds[i]) == 0);
    NEED(open("/dev/xen/nothing", O_RDWR) == -1 && errno == ENOENT);
}

static void a_read_does_not_wait_after_a_duplicate_is_closed(void)
{
    uint32_t port;
    int fd = open_device(O_NONBLOCK);
    NEED(close(dup(fd)) == 0);
    for (int i = 0; i < 3; i++)
        NEED(read(fd, &port, sizeof port) == -1 && errno == EAGAIN);
    NEED(close(fd) == 0);
}

static void it_looks_like_a_device(void)
{
    struct stat status;
    struct statx extended;
    int fd = open_device(0);
    NEED(access(DEVICE, F_OK | R_OK | W_OK) == 0);
    NEED(access(DEVICE, X_OK) == -1 && errno == EACCES);
    NEED(faccessat(AT_FDCWD, DEVICE, R_OK, 0) == 0);
    NEED(stat(DEVICE, &status) == 0 && S_ISCHR(status.st_mode) && status.st_rdev);
    NEED(lstat(DEVICE, &status) == 0 && S_ISCHR(status.st_mode));
    NEED(fstatat(AT_FDCWD, DEVICE, &status, 0) == 0 && S_ISCHR(status.st_mode));
    NEED(fstat(fd, &status) == 0 && S_ISCHR(status.st_mode) && status.st_rdev);
    NEED(fstatat(fd, "", &status, AT_EMPTY_PATH) == 0 && S_ISCHR(status.st_mode));
    NEED(statx(AT_FDCWD, DEVICE, 0, STATX_BASIC_STATS, &extended) == 0 && S_ISCHR(extended.stx_mode));
    NEED(statx(fd, "", AT_EMPTY_PATH, STATX_TYPE, &extended) == 0 && S_ISCHR(extended.stx_mode));
    NEED(close(fd) == 0);
    NEED(stat("/dev/null", &status) == 0 && fstat(0, &status) == 0 && access("/dev/null", R_OK) == 0);
}

static void the_last_close_unbinds_the_ports(void)
{
    int fd = open_with_virq();
    int twins[] = { dup(fd), dup2(fd, 100), dup3(fd, 101, O_CLOEXEC), fcntl(fd, F_DUPFD, 102),
                    fcntl(fd, F_DUPFD_CLOEXEC, 103) };
    NEED(close(fd) == 0);
    for (size_t i = 0; i < sizeof twins / sizeof *twins; i++) {
        NEED(twins[i] >= 0 && !virq_is_free());
        NEED(ioctl(twins[i], RESET) == 0);
        NEED(close(twins[i]) == 0);
    }
    NEED(virq_is_free());
    /* A number that was another file's before. */
    NEED(dup2(0, 100) == 100 && read(100, &fd, 0) == 0);
    fd = open_device(0);
    NEED(dup2(fd, 100) == 100 && ioctl(100, RESET) == 0);
    NEED(dup2(0, 100) == 100 && read(100, &fd, 0) == 0);
    NEED(close(100) == 0 && close(fd) == 0);
}

static void every_close_closes_it(void)
{
    int null = open("/dev/null", O_RDWR);
    int fd = open_with_virq();
    NEED(dup2(null, fd) == fd && virq_is_free() && close(fd) == 0);
    fd = open_with_virq();
    NEED(dup3(null, fd, 0) == fd && virq_is_free() && close(fd) == 0);
    fd = open_with_virq();
    NEED(close_range(fd, fd, 0) == 0 && virq_is_free());
    fd = open_with_virq();
    closefrom(fd); /* and all connections of the library */
    NEED(virq_is_free());
    fd = open_with_virq();
    for (int each = fd; each < 1024; each++)
        close(each);
    NEED(virq_is_free());
    /* The library's numbers are now those of other files, which it must not close. */
    fd = open_device(0);
    closefrom(fd + 1);
    for (int each = fd + 1; each < 1000; each++)
        NEED(dup2(null, each) == each);
    NEED(ioctl(fd, RESET) == 0);
    for (int each = fd + 1; each < 1000; each++)
        NEED(fcntl(each, F_GETFD) == 0);
    NEED(close(fd) == 0);
}

static void many_are_open_at_once(void)
{
    enum { MANY = 400 };
    int fds[MANY];
    for (int i = 0; i < MANY; i++)
        fds[i] = open_device(0);
    for (int round = 0; round < 3; round++)
        for (int i = 0; i < MANY; i++)
            NEED(request(fds[i], BIND_UNBOUND_PORT, SELF) > 0);
    for (int i = 0; i < MANY; i++)
        NEED(close(fds[i]) == 0);
}

static void a_restricted_file_binds_no_virq(void)
{
    int fd = open_device(0);
    uint16_t domid = 3;
    NEED(ioctl(fd, RESTRICT_DOMID, &domid) == 0);
    NEED(ioctl(fd, RESTRICT_DOMID, &domid) == -1 && errno == EACCES);
    NEED(request(fd, BIND_VIRQ, VIRQ_DEBUG) == -1 && errno == EACCES);
    NEED(close(fd) == 0);
}

int main(int count, char **arguments)
{
    static const struct test cases[] = {
        CASE(events_come_and_go),
        CASE(sizes_are_the_drivers),
        CASE(bad_requests_and_seeks_are_refused),
        CASE(a_fault_takes_no_event),
        CASE(every_open_opens_it),
        CASE(a_read_does_not_wait_after_a_duplicate_is_closed),
        CASE(it_looks_like_a_device),
        CASE(the_last_close_unbinds_the_ports),
        CASE(every_close_closes_it),
        CASE(many_are_open_at_once),
        CASE(a_restricted_file_binds_no_virq),
    };
    return run_case(cases, sizeof cases / sizeof *cases, count > 1 ? arguments[1] : "");
}

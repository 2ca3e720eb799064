/* Opens the device, restricts it to the domid in the first argument unless that is 0, and executes
 * the program in the other arguments, with the device as descriptor 9. */
#include "../device.h"

int main(int count, char **arguments)
{
    NEED(count > 2);
    int fd = open_device(0);
    uint16_t domid = atoi(arguments[1]);
    NEED(domid == 0 || ioctl(fd, RESTRICT_DOMID, &domid) == 0);
    NEED(dup2(fd, 9) == 9 && close(fd) == 0);
    execv(arguments[2], arguments + 2);
    NEED(!"executed");
}

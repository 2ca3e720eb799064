"""A bind that gets the number of a port of the same handle: the driver forgets all its ports.

Needs /dev/xen/evtchn. The number is free in Xen, and in the driver it is a port by BIND_STATIC.
After a restore every port of a handle is such a number.
"""

import os
import struct
from fcntl import ioctl

BIND_UNBOUND_PORT, UNBIND, NOTIFY, BIND_STATIC = 0x00044502, 0x00044503, 0x00044504, 0x00044507
DOMID_SELF = 0x7FF0


def request(number: int, word: int) -> int:
    """Make a request of the handle; print and return the result."""
    try:
        answer: int = ioctl(device, number, bytearray(struct.pack("I", word)))
    except OSError as error:
        answer = -(error.errno or 0)
    print(f"{number:#010x}({word}): {answer}", flush=True)
    return answer


device = os.open("/dev/xen/evtchn", os.O_RDWR)
kept = request(BIND_UNBOUND_PORT, DOMID_SELF)
request(NOTIFY, kept)  # 0
free = request(BIND_UNBOUND_PORT, DOMID_SELF)
request(UNBIND, free)
request(BIND_STATIC, free)  # 0, though Xen has no such port
request(BIND_UNBOUND_PORT, DOMID_SELF)  # -EEXIST: Xen has given the same number
request(NOTIFY, kept)  # -ENOTCONN: it is forgotten

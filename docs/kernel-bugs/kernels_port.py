"""BIND_STATIC of port 1, which the kernel itself holds, on a handle that is restricted.

Needs /dev/xen/evtchn.
"""

import os
import struct
import time
from fcntl import ioctl

RESTRICT_DOMID, BIND_STATIC = 0x00024506, 0x00044507

device = os.open("/dev/xen/evtchn", os.O_RDWR)
ioctl(device, RESTRICT_DOMID, bytearray(struct.pack("H", 1)))
try:
    ioctl(device, BIND_STATIC, bytearray(struct.pack("I", 1)))
except OSError as error:
    print("BIND_STATIC of port 1:", error, flush=True)
time.sleep(30)
print("30 seconds later this still runs", flush=True)

"""BIND_STATIC of a port that another handle holds, then a close of both. Needs /dev/xen/evtchn."""

import os
import struct
from fcntl import ioctl

BIND_UNBOUND_PORT, BIND_STATIC = 0x00044502, 0x00044507
DOMID_SELF = 0x7FF0

one = os.open("/dev/xen/evtchn", os.O_RDWR)
other = os.open("/dev/xen/evtchn", os.O_RDWR)
port = ioctl(one, BIND_UNBOUND_PORT, bytearray(struct.pack("I", DOMID_SELF)))
answer = ioctl(other, BIND_STATIC, bytearray(struct.pack("I", port)))
print(f"BIND_STATIC of port {port}, which another handle holds: {answer}", flush=True)
os.close(one)
os.close(other)
print("both are closed", flush=True)

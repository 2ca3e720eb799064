"""The driver's read and write, without an EventChannel."""

import os

from pyxenevtchn import Device
from pyxenevtchn.abi import Packed
from pyxenevtchn.fake import FakeDevice


def raw_read(device: Device, size: int) -> bytes:
    """Read from the device: the model's own read, or read(2) on a real one."""
    if isinstance(device, FakeDevice):
        return device.read(size)
    return os.read(device.fileno(), size)


def raw_write(device: Device, data: Packed) -> int:
    """Write to the device in the same way; return how many bytes it took."""
    if isinstance(device, FakeDevice):
        return device.write(data)
    return os.write(device.fileno(), data)

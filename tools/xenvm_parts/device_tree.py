"""The device tree of an arm64 machine: QEMU's own, and what Xen boots."""

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from .debian import run

_CHOSEN = """\
/ {{
    chosen {{
        #address-cells = <2>;
        #size-cells = <2>;
        xen,xen-bootargs = "{xen_line}";
        xen,dom0-bootargs = "{linux_line}";
        {kernel}
        {initramfs}
        {channels}
    }};
}};
"""

# Each end names the other. dom0's ends are in /chosen itself, a guest's in its node. The help of
# --static and echo.c have the same port numbers.
_CHANNELS = """\
near: evtchn@1 {{ compatible = "xen,evtchn-v1"; xen,evtchn = <10 &far>; }};
far: evtchn@2 {{ compatible = "xen,evtchn-v1"; xen,evtchn = <11 &near>; }};
to_echo: evtchn@3 {{ compatible = "xen,evtchn-v1"; xen,evtchn = <12 &echo>; }};
to_tick: evtchn@4 {{ compatible = "xen,evtchn-v1"; xen,evtchn = <13 &tick>; }};
domU1 {{
    compatible = "xen,domain";
    #address-cells = <2>;
    #size-cells = <2>;
    memory = <0 {kibibytes}>;
    cpus = <1>;
    vpl011;
    xen,enhanced = "no-xenstore";
    {kernel}
    {initramfs}
    echo: evtchn@5 {{ compatible = "xen,evtchn-v1"; xen,evtchn = <10 &to_echo>; }};
    tick: evtchn@6 {{ compatible = "xen,evtchn-v1"; xen,evtchn = <11 &to_tick>; }};
}};
"""


@dataclass(frozen=True, slots=True)
class Module:
    """A file in the machine's memory that Xen boots."""

    address: int
    size: int

    def node(self, kind: str, line: str = "") -> str:
        """Return its node in the tree."""
        arguments = f'bootargs = "{line}"; ' if line else ""
        return (
            f'module@{self.address:x} {{ compatible = "multiboot,{kind}", "multiboot,module"; '
            f"reg = <0 {self.address:#x} 0 {self.size:#x}>; {arguments}}};"
        )


def static_channels(kernel: Module, initramfs: Module, line: str, megabytes: int) -> str:
    """Return dom0's static event channels, and the guest at the other end of two of them."""
    return _CHANNELS.format(
        kibibytes=megabytes << 10,
        kernel=kernel.node("kernel", line),
        initramfs=initramfs.node("ramdisk"),
    )


def chosen(
    *, kernel: Module, initramfs: Module, xen_line: str, linux_line: str, channels: str
) -> str:
    """Return what Xen and dom0 boot with, and the nodes of static event channels."""
    return _CHOSEN.format(
        xen_line=xen_line,
        linux_line=linux_line,
        kernel=kernel.node("kernel"),
        initramfs=initramfs.node("ramdisk"),
        channels=channels,
    )


def device_tree(emulator: Sequence[str], added: str) -> bytes:
    """Return the tree of the machine that QEMU's arguments describe, with nodes added."""
    program, *arguments = emulator
    with tempfile.TemporaryDirectory(prefix="xenvm-") as name:
        source, tree = Path(name, "source"), Path(name, "tree")
        run(program, *arguments, "-machine", f"dumpdtb={tree}", "-display", "none")
        source.write_text(run("dtc", "-q", "-I", "dtb", "-O", "dts", tree) + added)
        run("dtc", "-q", "-I", "dts", "-O", "dtb", "-o", tree, source)
        return tree.read_bytes()

"""The ports that a Linux kernel binds before the first process runs.

lsevtchn listed them on real machines (Xen 4.17, Linux 6.1). The comments name the kernel's
functions that bind them.
"""

from collections.abc import Callable

from ...abi import DOM0_KERNEL_VIRQS, Machine, Virq
from .configuration import Configuration
from .xen import XenDomain

# For each vCPU: its timer (xen_setup_timer); then the inter-processor interrupts
# (xen_smp_intr_init; on PV also xen_smp_intr_init_pv; with several vCPUs also xen_init_lock_cpu).
_IPIS: dict[Machine, int] = {"pv": 4, "pvh": 3, "arm64": 0}
_SPINLOCK_IPIS: dict[Machine, int] = {"pv": 1, "pvh": 1, "arm64": 0}

# The ACPI, keyboard and clock interrupts of a PC.
_DOM0_PIRQS: dict[Machine, int] = {"pv": 3, "pvh": 0, "arm64": 0}


def bind_kernel_ports(domain: XenDomain, configuration: Configuration) -> list[int]:
    """Bind what a domain's kernel binds at boot, and return the ports.

    dom0 has two vCPUs, a guest has one.

    Raises:
        OSError: ENOSPC, the domain may not have so many ports.
    """
    machine = configuration.machine
    if domain.domid == 0:
        ports = _vcpu(domain, configuration, spinlocks=_SPINLOCK_IPIS[machine], first=True)
        ports += _vcpu(domain, configuration, spinlocks=_SPINLOCK_IPIS[machine], first=False)
        ports.append(domain.alloc_unbound(0))  # xenstored connects to it
        # xen_pcpu_init and bind_virq_for_mce, both only on x86; xen_hvc_init.
        virqs = [virq for virq in DOM0_KERNEL_VIRQS[machine] if virq != Virq.TIMER]
        ports += [domain.bind_virq(virq) for virq in virqs]
        ports += [domain.bind_pirq() for _ in range(_DOM0_PIRQS[machine])]
        return ports
    # The toolstack allocates xenstored's and xenconsoled's before the domain runs.
    ports = [domain.alloc_unbound(0), domain.alloc_unbound(0)]
    return ports + _vcpu(domain, configuration, spinlocks=0, first=True)


def _vcpu(
    domain: XenDomain, configuration: Configuration, *, spinlocks: int, first: bool
) -> list[int]:
    if configuration.machine == "arm64":
        return []  # the hardware has the timers and inter-processor interrupts
    # The driver binds VIRQs on the first vCPU. Those of another vCPU only take port numbers.
    bind: Callable[[Virq], int] = domain.bind_virq if first else lambda _virq: domain.bind_ipi()
    ports = [bind(Virq.TIMER)]
    ports += [domain.bind_ipi() for _ in range(spinlocks + _IPIS[configuration.machine])]
    if configuration.abi == "2l":
        ports.append(bind(Virq.DEBUG))
    return ports

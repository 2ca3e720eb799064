"""The ports that a Linux kernel has bound before the first process runs.

They were listed by lsevtchn on real machines (Xen 4.17, Linux 6.1), and are bound in the functions
that are named below.
"""

from collections.abc import Callable

from ...abi import DOM0_KERNEL_VIRQS, Machine, Virq
from .configuration import Configuration
from .xen import XenDomain

# For each vCPU: its timer (xen_setup_timer); then the interrupts between processors
# (xen_smp_intr_init; on PV xen_smp_intr_init_pv as well, and where there are several of them
# xen_init_lock_cpu).
_IPIS: dict[Machine, int] = {"pv": 4, "pvh": 3, "arm64": 0}
_SPINLOCK_IPIS: dict[Machine, int] = {"pv": 1, "pvh": 1, "arm64": 0}

# The ACPI, keyboard and clock interrupts of a PC.
_DOM0_PIRQS: dict[Machine, int] = {"pv": 3, "pvh": 0, "arm64": 0}


def bind_kernel_ports(domain: XenDomain, configuration: Configuration) -> list[int]:
    """Bind what the kernel of a domain binds as it boots: two vCPUs in dom0, one in another.

    Raises:
        OSError: ENOSPC, the domain may not have as many ports.
    """
    machine = configuration.machine
    if domain.domid == 0:
        ports = _vcpu(domain, configuration, spinlocks=_SPINLOCK_IPIS[machine], first=True)
        ports += _vcpu(domain, configuration, spinlocks=_SPINLOCK_IPIS[machine], first=False)
        ports.append(domain.alloc_unbound(0))  # xenstored connects to it
        # xen_pcpu_init and bind_virq_for_mce, both on x86 alone; xen_hvc_init.
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
        return []  # its timers and interrupts between processors are the hardware's
    # The driver binds VIRQs on the first vCPU: those of another are in nobody's way.
    bind: Callable[[Virq], int] = domain.bind_virq if first else lambda _virq: domain.bind_ipi()
    ports = [bind(Virq.TIMER)]
    ports += [domain.bind_ipi() for _ in range(spinlocks + _IPIS[configuration.machine])]
    if configuration.abi == "2l":
        ports.append(bind(Virq.DEBUG))
    return ports

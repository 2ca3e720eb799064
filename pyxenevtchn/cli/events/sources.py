"""The sources of events: what the options name, how to bind it, and its name."""

from collections.abc import Mapping, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass

from ...abi import Request, virq_name
from ...bindings import Binding
from ...channel import EventChannel
from ...holders import describe_virq
from ...opening import open_device
from ..options import domid_name


@dataclass(frozen=True)
class Sources:
    """What to bind on one handle.

    Attributes:
        virqs: VIRQs' numbers.
        addresses: other ends to connect to, each a domid and a port.
        domains: domains that may connect, a port for each.
        static_ports: ports that Xen set up at boot.
    """

    virqs: Sequence[int] = ()
    addresses: Sequence[tuple[int, int]] = ()
    domains: Sequence[int] = ()
    static_ports: Sequence[int] = ()

    def bind(self, channel: EventChannel) -> dict[int, str]:
        """Bind all sources; return the name of each port's source, in the order of binding."""
        for virq in self.virqs:
            _bind_virq(channel, virq)
        for domid, port in self.addresses:
            channel.bind_interdomain(domid, port)
        for domid in self.domains:
            channel.bind_unbound_port(domid)
        for port in self.static_ports:
            channel.bind_static(port)
        return names(channel.bindings)


def _bind_virq(channel: EventChannel, virq: int) -> None:
    try:
        channel.bind_virq(virq)
    except FileExistsError as error:
        # Who has it is known to root in dom0; else the error says what it can.
        with suppress(OSError), closing(open_device(channel.name)) as device:
            holder = describe_virq(virq, device.port_table(), device.fileno())
            if holder:
                error.add_note(holder)
        raise


def names(bindings: Mapping[int, Binding]) -> dict[int, str]:
    """Name the ports' sources: virq:NAME, interdomain:DOM:PORT, unbound:DOM or static:PORT."""
    return {port: _name(port, binding) for port, binding in bindings.items()}


def _name(port: int, binding: Binding) -> str:
    if binding.virq is not None:
        return f"virq:{virq_name(binding.virq)}"
    if binding.request is Request.BIND_STATIC:
        return f"static:{port}"
    domain = domid_name(binding.remote_domain or 0)
    if binding.request is Request.BIND_UNBOUND_PORT:
        return f"unbound:{domain}"
    return f"interdomain:{domain}:{binding.remote_port}"

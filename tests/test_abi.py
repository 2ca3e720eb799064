import re
from pathlib import Path

import pytest

from pyxenevtchn import Virq, VirqScope, abi

XEN_HEADER = Path("/usr/include/xen/xen.h")


@pytest.mark.parametrize("text", ["CON_RING", "con_ring", "virq-con-ring", "VIRQ_CON_RING", "8", 8])
def test_a_virq_has_many_spellings(text: str | int) -> None:
    assert Virq.parse(text) is Virq.CON_RING


def test_the_machine_check_virq_has_its_x86_name() -> None:
    assert Virq.parse("mca") is Virq.ARCH_0


@pytest.mark.parametrize("text", ["", "RING", "VIRQ_", "-1", "5", "24", 5, 24, -1])
def test_an_unknown_virq_is_refused_with_the_known_names(text: str | int) -> None:
    with pytest.raises(ValueError, match=r"no VIRQ is called.*TIMER.*ARCH_7"):
        Virq.parse(text)


def test_a_virq_is_no_fraction() -> None:
    with pytest.raises(TypeError):
        Virq.parse(8.0)  # type: ignore[arg-type]


def test_scopes() -> None:
    by_scope = {scope: {v.name for v in Virq if v.scope is scope} for scope in VirqScope}
    assert by_scope[VirqScope.VCPU] == {"TIMER", "DEBUG", "XENOPROF", "XENPMU"}
    assert by_scope[VirqScope.DOMAIN] == {"ARGO"}
    assert len(by_scope[VirqScope.GLOBAL]) == len(Virq) - 5


@pytest.mark.skipif(not XEN_HEADER.exists(), reason="needs libxen-dev")
def test_names_and_numbers_are_those_of_xens_headers() -> None:
    header = XEN_HEADER.read_text()
    virqs = {n: int(v) for n, v in re.findall(r"#define VIRQ_(\w+) +(\d+)\s", header)}
    ours = {name: int(virq) for name, virq in Virq.__members__.items() if name != "MCA"}
    assert ours == virqs
    assert re.search(rf"#define NR_VIRQS +{abi.NR_VIRQS}\b", header)
    domids = re.findall(r"#define (DOMID_\w+) +xen_mk_uint\((0x\w+)\)", header)
    assert {"DOMID_FIRST_RESERVED", "DOMID_SELF", "DOMID_IDLE"} <= {name for name, _ in domids}
    for name, value in domids:
        if hasattr(abi, name):
            assert getattr(abi, name) == int(value, 16)


def test_ports_are_packed_as_native_words_and_back() -> None:
    assert abi.unpack_ports(bytes(abi.pack_ports([1, 2**32 - 1, 0]))) == [1, 2**32 - 1, 0]
    assert abi.unpack_ports(bytes(abi.pack_ports(7))) == [7]
    assert abi.unpack_ports(b"") == []

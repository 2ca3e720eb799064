import pytest

from pyxenevtchn.fake import Domain, Hypervisor


@pytest.fixture
def xen() -> Hypervisor:
    return Hypervisor()


@pytest.fixture
def guest(xen: Hypervisor) -> Domain:
    return xen.create_domain()

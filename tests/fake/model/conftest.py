import pytest

from pyxenevtchn.fake.model.linux import Kernel

from .kernels import boot


@pytest.fixture
def kernel() -> Kernel:
    return boot()

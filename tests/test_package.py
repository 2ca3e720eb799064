import subprocess
import sys

import pyxenevtchn


def test_the_public_names_are_sorted_and_exist() -> None:
    names = pyxenevtchn.__all__
    assert sorted(names, key=lambda name: (not name.isupper(), name)) == names
    assert all(hasattr(pyxenevtchn, name) for name in names)


def test_importing_loads_only_what_everybody_needs() -> None:
    loaded = subprocess.run(
        [sys.executable, "-c", "import pyxenevtchn, sys; print(*sys.modules)"],
        capture_output=True,
        text=True,
        check=True,
    ).stdout.split()
    assert "pyxenevtchn.channel" in loaded
    unwanted = {"pyxenevtchn._ffi", "pyxenevtchn.kernel", "pyxenevtchn.fake", "_cffi_backend"}
    assert not {*unwanted, "cffi", "click", "asyncio"} & set(loaded)

"""The parts of xenvm: run a command in dom0 of a real Xen in an emulated machine."""

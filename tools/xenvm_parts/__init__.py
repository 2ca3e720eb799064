"""The parts of xenvm: a command, run in dom0 of a real Xen in an emulated machine."""

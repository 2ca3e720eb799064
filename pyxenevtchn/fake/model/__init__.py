"""What models Xen and Linux. Pure: no descriptor, no thread, no I/O."""

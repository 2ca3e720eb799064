"""The benchmarks: this library compared with the C library, plain system calls, and sockets."""

"""The benchmarks: this library beside the C library, plain system calls, and sockets."""

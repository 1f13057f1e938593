//! End-to-end tests and benchmarks on a real cluster.

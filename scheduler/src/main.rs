//! The Kubernetes scheduler.

fn main() {}

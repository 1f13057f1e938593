//! The Kubernetes controllers.

fn main() {}

//! The Kubernetes API server.

pub mod streaming;

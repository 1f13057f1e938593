//! The Kubernetes scheduler: gives every pod a node.
//!
//! [`scheduler::Scheduler`] decides, without I/O; [`shell`] watches the cluster, tells it what happens and performs what it decides.

pub mod config;
pub mod framework;
pub mod metrics;
pub mod model;
pub mod plugins;
pub mod queue;
pub mod scheduler;
pub mod shell;
pub mod snapshot;

pub use shell::run::{Args, run};

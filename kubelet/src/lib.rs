//! The node agent: runs the pods that are bound to its node through a container runtime, and reports on them and on the node.
//!
//! Decisions are pure functions (`plan`, `status::generate`, `env`, `resources`, `admission`, `runtime::sandbox` and
//! `runtime::container`, `probes::tracker`, `node::object`); the rest is shells around them. One worker per pod drives it
//! (`worker`), woken by changes of the pod, of its containers (`pleg`), of its probes and of the objects it uses.

mod admission;
mod backoff;
mod certs;
mod cgroups;
mod claims;
mod config;
mod credentials;
mod devices;
mod env;
mod eviction;
mod handlers;
mod hooks;
mod housekeeping;
mod images;
mod logs;
mod metrics;
mod node;
mod objects;
mod plan;
mod pleg;
mod pods;
mod probes;
mod resize;
mod resources;
mod run;
mod runtime;
mod server;
mod serving;
mod shared;
mod static_pods;
mod status;
mod sysctls;
#[cfg(test)]
mod testing;
mod tokens;
mod trust;
mod userns;
mod volumes;
mod worker;

pub use config::Flags;
pub use run::run;

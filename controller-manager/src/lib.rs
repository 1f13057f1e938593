//! The Kubernetes controllers: one folder each, with a pure `plan` and the shell that observes and performs.
//!
//! [`frame`] runs them all; [`run`] wires them up; [`common`] holds what several decide in the same way.

pub mod certificates;
pub mod common;
pub mod deployment;
pub mod endpoints;
pub mod endpointslice;
pub mod frame;
pub mod garbage_collector;
pub mod identity;
pub mod namespace;
pub mod node_ipam;
pub mod node_lifecycle;
pub mod options;
pub mod pod_gc;
pub mod replicaset;
pub mod root_ca;
pub mod run;
pub mod serviceaccount;
pub mod taint_eviction;
pub mod cronjob;
pub mod daemonset;
pub mod job;
pub mod statefulset;
pub mod ttl_after_finished;

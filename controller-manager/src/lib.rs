//! The Kubernetes controllers: one folder each, with a pure `plan` and the shell that observes and performs.
//!
//! [`frame`] runs them all; [`run`] wires them up; [`common`] holds what several decide in the same way.

pub mod bootstrap;
pub mod certificates;
pub mod cluster_role_aggregation;
pub mod common;
pub mod cronjob;
pub mod daemonset;
pub mod deployment;
pub mod disruption;
pub mod endpoints;
pub mod endpointslice;
pub mod endpointslice_mirroring;
pub mod ephemeral_volume;
pub mod frame;
pub mod garbage_collector;
pub mod horizontal_pod_autoscaler;
pub mod identity;
pub mod job;
pub mod namespace;
pub mod node_ipam;
pub mod node_lifecycle;
pub mod options;
pub mod persistent_volume;
pub mod pod_gc;
pub mod replicaset;
pub mod resource_quota;
pub mod root_ca;
pub mod run;
pub mod service_account_tokens;
pub mod service_cidr;
pub mod serviceaccount;
pub mod statefulset;
pub mod taint_eviction;
pub mod ttl;
pub mod ttl_after_finished;
pub mod volume_protection;

//! A node's part in the cluster's networks: the Service proxy, and the pod network's agent.

pub mod conntrack;
pub mod health;
pub mod iptables;
pub mod network;
pub mod run;
pub mod service;

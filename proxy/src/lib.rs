//! A node's part in the cluster's networks: the Service proxy, and the pod network's agent.

pub mod network;

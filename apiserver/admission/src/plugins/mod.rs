//! The plugins, one file each.

pub mod always;
pub mod always_pull;
pub mod anti_affinity;
pub mod certificates;
pub mod claim_resize;
pub mod event_rate_limit;
pub mod extended_resource;
pub mod external_ips;
pub mod in_use_protection;
pub mod ingress_class;
pub mod limit_ranger;
pub mod namespace_exists;
pub mod namespace_lifecycle;
pub mod node_restriction;
pub mod owner_references;
pub mod pod_security;
pub mod policy;
pub mod priority;
pub mod quantity;
pub mod resource_quota;
pub mod runtime_class;
pub mod service_account;
pub mod storage_class;
pub mod taint_nodes;
pub mod toleration_seconds;
pub mod topology_labels;
pub mod webhook;

use rutter_api::object::ObjectExt;
use rutter_api::{Resource, Value};

/// The annotation that marks a static pod's image in the API.
pub(crate) const MIRROR: &str = "kubernetes.io/config.mirror";

/// Whether a write is to pods themselves.
pub(crate) fn is_pods(resource: &Resource, subresource: &str) -> bool {
    subresource.is_empty() && crate::is(resource, "", "pods")
}

/// The lists of containers in a pod's spec.
pub(crate) const CONTAINERS: [&str; 3] = ["initContainers", "containers", "ephemeralContainers"];

/// All containers of a pod's spec.
pub(crate) fn containers(spec: &Value) -> impl Iterator<Item = &Value> {
    CONTAINERS.into_iter().flat_map(|key| spec.list_at(key))
}

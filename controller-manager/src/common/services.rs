//! What Endpoints and EndpointSlices have in common: which pods stand behind a Service, at which addresses and ports.

use crate::common::owners::namespace;
use crate::common::pods::{is_deleting, is_ready, is_terminal};
use crate::common::selector::Matcher;
use k8s_openapi::api::core::v1::{Container, Pod, PodSpec, Service, ServicePort};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use rutter_client::informer::ObjectKey;
use rutter_client::{Change, Store, WorkQueue};
use std::net::IpAddr;
use std::time::Duration;

/// The label of endpoints whose Service has no ClusterIP.
pub const HEADLESS: &str = "service.kubernetes.io/headless";

/// An address family as EndpointSlices name it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Family {
    /// IPv4
    V4,
    /// IPv6
    V6,
}

impl Family {
    /// `IPv4` or `IPv6`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::V4 => "IPv4",
            Self::V6 => "IPv6",
        }
    }

    /// The family of an address; `None` when it is none.
    pub fn of(address: &str) -> Option<Self> {
        address
            .parse()
            .ok()
            .map(|ip: IpAddr| if ip.is_ipv4() { Self::V4 } else { Self::V6 })
    }
}

/// Whether the Service's endpoints are this controller's business: it selects pods and is no alias.
pub fn selects_pods(service: &Service) -> Option<Matcher> {
    let spec = service.spec.as_ref()?;
    if spec.type_.as_deref() == Some("ExternalName") {
        return None;
    }
    spec.selector.as_ref().map(Matcher::of_map)
}

/// Whether it has no ClusterIP.
pub fn is_headless(service: &Service) -> bool {
    service
        .spec
        .as_ref()
        .and_then(|s| s.cluster_ip.as_deref())
        .is_none_or(|ip| ip.is_empty() || ip == "None")
}

/// Whether pods count as ready whatever they say.
pub fn publishes_not_ready(service: &Service) -> bool {
    service.spec.as_ref().and_then(|s| s.publish_not_ready_addresses) == Some(true)
}

/// The address families of a Service, the primary one first.
pub fn families(service: &Service) -> Vec<Family> {
    let Some(spec) = &service.spec else {
        return Vec::new();
    };
    let named: Vec<Family> = spec
        .ip_families
        .iter()
        .flatten()
        .filter_map(|f| match f.as_str() {
            "IPv4" => Some(Family::V4),
            "IPv6" => Some(Family::V6),
            _ => None,
        })
        .collect();
    match (named.is_empty(), spec.cluster_ip.as_deref().and_then(Family::of)) {
        (false, _) => named,
        (true, Some(family)) => vec![family],
        (true, None) => vec![Family::V4, Family::V6],
    }
}

/// The pod's addresses of a family, in canonical form.
pub fn addresses(pod: &Pod, family: Family) -> Vec<String> {
    let ips = pod.status.iter().flat_map(|s| s.pod_ips.iter().flatten());
    let parsed = ips.filter_map(|ip| ip.ip.parse::<IpAddr>().ok());
    parsed
        .filter(|ip| ip.is_ipv4() == (family == Family::V4))
        .map(|ip| ip.to_string())
        .collect()
}

/// Whether the pod belongs among a Service's endpoints at all.
pub fn belongs(pod: &Pod, include_terminating: bool) -> bool {
    let has_address = pod
        .status
        .as_ref()
        .is_some_and(|s| s.pod_ips.iter().flatten().next().is_some());
    !is_terminal(pod) && has_address && (include_terminating || !is_deleting(pod))
}

/// The pod's host name when it is to be published under the Service.
pub fn hostname(pod: &Pod, service: &Service) -> Option<String> {
    let spec = pod.spec.as_ref()?;
    let same =
        spec.subdomain == service.metadata.name && namespace(&pod.metadata) == namespace(&service.metadata);
    spec.hostname.clone().filter(|h| same && !h.is_empty())
}

/// The container port behind a Service port; `None` when the pod has no port of that name.
pub fn target_port(pod: &Pod, port: &ServicePort) -> Option<i32> {
    let name = match &port.target_port {
        None => return Some(port.port),
        Some(IntOrString::Int(number)) => return Some(*number),
        Some(IntOrString::String(name)) => name,
    };
    let protocol = |p: Option<&str>| p.unwrap_or("TCP").to_owned();
    let wanted = protocol(port.protocol.as_deref());
    let spec: &PodSpec = pod.spec.as_ref()?;
    let sidecar = |c: &&Container| c.restart_policy.as_deref() == Some("Always");
    let containers = spec
        .containers
        .iter()
        .chain(spec.init_containers.iter().flatten().filter(sidecar));
    containers
        .flat_map(|c| c.ports.iter().flatten())
        .find(|p| p.name.as_deref() == Some(name) && protocol(p.protocol.as_deref()) == wanted)
        .map(|p| p.container_port)
}

/// Wakes the Services whose endpoints a change of a pod may touch.
pub fn pod_changed(
    change: &Change<Pod>,
    queue: &WorkQueue<ObjectKey>,
    services: &Store<Service>,
    delay: Duration,
) {
    let labels_changed = match (&change.old, &change.new) {
        (Some(old), Some(new)) => {
            let labels = old.metadata.labels != new.metadata.labels;
            if !labels && !matters(old, new) {
                return;
            }
            labels
        }
        _ => false,
    };
    let Some(pod) = change.object() else { return };
    for service in services.list_in(namespace(&pod.metadata)) {
        let Some(selector) = selects_pods(&service) else {
            continue;
        };
        let old = change.old.as_ref().filter(|_| labels_changed);
        if selector.matches(pod.metadata.labels.as_ref())
            || old.is_some_and(|p| selector.matches(p.metadata.labels.as_ref()))
        {
            queue.add_after(ObjectKey::of(&*service), delay);
        }
    }
}

fn matters(old: &Pod, new: &Pod) -> bool {
    let host = |p: &Pod| {
        p.spec
            .as_ref()
            .map(|s| (s.node_name.clone(), s.hostname.clone(), s.subdomain.clone()))
    };
    let ips = |p: &Pod| p.status.as_ref().and_then(|s| s.pod_ips.clone());
    is_ready(old) != is_ready(new)
        || is_terminal(old) != is_terminal(new)
        || is_deleting(old) != is_deleting(new)
        || host(old) != host(new)
        || ips(old) != ips(new)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_named_target_port_is_found_by_name_and_protocol() {
        let pod: Pod = serde_json::from_value(json!({"spec": {
            "containers": [{"name": "c", "ports": [
                {"name": "web", "containerPort": 80, "protocol": "TCP"},
                {"name": "dns", "containerPort": 53, "protocol": "UDP"}]}],
            "initContainers": [
                {"name": "side", "restartPolicy": "Always", "ports": [{"name": "side", "containerPort": 81}]},
                {"name": "once", "ports": [{"name": "once", "containerPort": 82}]}]}}))
        .unwrap();
        for (port, want) in [
            (json!({"port": 8080}), Some(8080)),
            (json!({"port": 8080, "targetPort": 90}), Some(90)),
            (json!({"port": 8080, "targetPort": "web"}), Some(80)),
            (
                json!({"port": 53, "targetPort": "dns", "protocol": "UDP"}),
                Some(53),
            ),
            (json!({"port": 53, "targetPort": "dns"}), None),
            (json!({"port": 1, "targetPort": "side"}), Some(81)),
            (json!({"port": 1, "targetPort": "once"}), None),
        ] {
            let text = port.to_string();
            assert_eq!(
                target_port(&pod, &serde_json::from_value(port).unwrap()),
                want,
                "{text}"
            );
        }
    }
}

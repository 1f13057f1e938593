//! Decides the Endpoints object of a Service.

use crate::common::owners::labels;
use crate::common::pods::{is_ready, node_name};
use crate::common::services::{self, HEADLESS};
use k8s_openapi::api::core::v1::{
    EndpointAddress, EndpointPort, EndpointSubset, Endpoints, ObjectReference, Pod, Service,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use std::collections::BTreeMap;
use std::sync::Arc;

/// The label that says whose the object is.
pub const MANAGED_BY: &str = "endpoints.kubernetes.io/managed-by";
/// Its value.
pub const MANAGER: &str = "endpoint-controller";
/// Says that addresses were left out.
pub const OVER_CAPACITY: &str = "endpoints.kubernetes.io/over-capacity";
/// How many addresses one object holds.
pub const CAPACITY: usize = 1000;

type PortKey = (String, i32, String, Option<String>);

/// The object as it should be when it differs from the one there is.
pub fn plan(service: &Service, pods: &[Arc<Pod>], current: Option<&Endpoints>) -> Option<Endpoints> {
    let mut after = current.cloned().unwrap_or_else(|| Endpoints {
        metadata: ObjectMeta {
            name: service.metadata.name.clone(),
            namespace: service.metadata.namespace.clone(),
            ..ObjectMeta::default()
        },
        subsets: None,
    });
    let mut wanted_labels = labels(&service.metadata);
    wanted_labels.remove(HEADLESS);
    if services::is_headless(service) {
        wanted_labels.insert(HEADLESS.to_owned(), String::new());
    }
    wanted_labels.insert(MANAGED_BY.to_owned(), MANAGER.to_owned());
    after.metadata.labels = Some(wanted_labels);
    let mut subsets = subsets(service, pods);
    let annotations = after.metadata.annotations.get_or_insert_default();
    if truncate(&mut subsets) {
        annotations.insert(OVER_CAPACITY.to_owned(), "truncated".to_owned());
    } else {
        annotations.remove(OVER_CAPACITY);
    }
    if annotations.is_empty() {
        after.metadata.annotations = None;
    }
    let unchanged = current.is_some_and(|c| {
        normal(c.subsets.as_deref().unwrap_or_default()) == normal(&subsets)
            && c.metadata.labels == after.metadata.labels
            && c.metadata.annotations.clone().filter(|a| !a.is_empty()) == after.metadata.annotations
    });
    after.subsets = Some(subsets);
    (!unchanged).then_some(after)
}

/// For each pod its address and ports; pods with the same ports share a subset.
fn subsets(service: &Service, pods: &[Arc<Pod>]) -> Vec<EndpointSubset> {
    let publish = services::publishes_not_ready(service);
    let Some(family) = services::families(service).first().copied() else {
        return Vec::new();
    };
    let service_ports = service
        .spec
        .as_ref()
        .and_then(|s| s.ports.clone())
        .unwrap_or_default();
    let mut groups: BTreeMap<Vec<PortKey>, EndpointSubset> = BTreeMap::new();
    for pod in pods.iter().filter(|p| services::belongs(p, publish)) {
        let Some(ip) = services::addresses(pod, family).into_iter().next() else {
            continue;
        };
        let mut ports: Vec<PortKey> = service_ports
            .iter()
            .filter_map(|p| {
                let protocol = p.protocol.clone().unwrap_or_else(|| "TCP".to_owned());
                Some((
                    p.name.clone().unwrap_or_default(),
                    services::target_port(pod, p)?,
                    protocol,
                    p.app_protocol.clone(),
                ))
            })
            .collect();
        if ports.is_empty() && !(service_ports.is_empty() && services::is_headless(service)) {
            continue;
        }
        ports.sort();
        let address = EndpointAddress {
            ip,
            hostname: services::hostname(pod, service),
            node_name: Some(node_name(pod).to_owned()).filter(|n| !n.is_empty()),
            target_ref: Some(ObjectReference {
                kind: Some("Pod".to_owned()),
                namespace: pod.metadata.namespace.clone(),
                name: pod.metadata.name.clone(),
                uid: pod.metadata.uid.clone(),
                ..ObjectReference::default()
            }),
        };
        let group = groups.entry(ports).or_default();
        let list = if publish || is_ready(pod) {
            &mut group.addresses
        } else {
            &mut group.not_ready_addresses
        };
        list.get_or_insert_default().push(address);
    }
    let port = |(name, port, protocol, app_protocol): PortKey| EndpointPort {
        name: Some(name).filter(|n| !n.is_empty()),
        port,
        protocol: Some(protocol),
        app_protocol,
    };
    groups
        .into_iter()
        .map(|(ports, mut subset)| {
            subset.ports =
                Some(ports.into_iter().map(port).collect()).filter(|p: &Vec<EndpointPort>| !p.is_empty());
            subset
        })
        .collect()
}

/// Leaves out what is beyond the capacity, ready addresses last.
fn truncate(subsets: &mut [EndpointSubset]) -> bool {
    let count = |s: &[EndpointSubset], f: fn(&EndpointSubset) -> &Option<Vec<EndpointAddress>>| -> usize {
        s.iter().map(|s| f(s).as_ref().map_or(0, Vec::len)).sum()
    };
    let ready = count(subsets, |s| &s.addresses);
    if ready + count(subsets, |s| &s.not_ready_addresses) <= CAPACITY {
        return false;
    }
    let (mut room, mut room_not_ready) = (CAPACITY, CAPACITY.saturating_sub(ready));
    for subset in subsets {
        for (list, room) in [
            (&mut subset.addresses, &mut room),
            (&mut subset.not_ready_addresses, &mut room_not_ready),
        ] {
            if let Some(addresses) = list {
                addresses.truncate(*room);
                *room -= addresses.len();
            }
            if list.as_ref().is_some_and(Vec::is_empty) {
                *list = None;
            }
        }
    }
    true
}

/// Subsets in an order of their own, without what doesn't matter.
fn normal(subsets: &[EndpointSubset]) -> Vec<String> {
    let mut texts: Vec<String> = subsets
        .iter()
        .map(|subset| {
            let mut subset = subset.clone();
            for addresses in [&mut subset.addresses, &mut subset.not_ready_addresses]
                .into_iter()
                .flatten()
            {
                addresses.sort_by(|a, b| a.ip.cmp(&b.ip));
                for target in addresses.iter_mut().filter_map(|a| a.target_ref.as_mut()) {
                    target.resource_version = None;
                }
            }
            if let Some(ports) = &mut subset.ports {
                ports.sort_by_key(|p| (p.name.clone(), p.port, p.protocol.clone()));
            }
            crate::common::hash::canonical(&subset).to_string()
        })
        .collect();
    texts.sort();
    texts
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn pod(name: &str, ip: &str, ready: bool) -> Arc<Pod> {
        Arc::new(
            serde_json::from_value(json!({
                "metadata": {"name": name, "uid": name, "namespace": "default"},
                "spec": {"nodeName": "n1", "containers": [{"name": "c", "ports": [{"name": "web", "containerPort": 80}]}]},
                "status": {"phase": "Running", "podIP": ip, "podIPs": [{"ip": ip}],
                           "conditions": [{"type": "Ready", "status": if ready { "True" } else { "False" }}]},
            }))
            .unwrap(),
        )
    }

    fn service(spec: Value) -> Service {
        serde_json::from_value(
            json!({"metadata": {"name": "web", "namespace": "default", "labels": {"a": "b"}}, "spec": spec}),
        )
        .unwrap()
    }

    #[test]
    fn pods_are_listed_by_readiness_and_an_up_to_date_object_is_left_alone() {
        let service = service(
            json!({"clusterIP": "10.96.0.7", "ipFamilies": ["IPv4"], "ports": [{"port": 80, "targetPort": "web"}]}),
        );
        let pods = [pod("a", "10.0.0.1", true), pod("b", "10.0.0.2", false)];
        let made = plan(&service, &pods, None).unwrap();
        let subsets = made.subsets.clone().unwrap();
        assert_eq!(subsets.len(), 1);
        assert_eq!(subsets[0].addresses.as_ref().unwrap()[0].ip, "10.0.0.1");
        assert_eq!(subsets[0].not_ready_addresses.as_ref().unwrap()[0].ip, "10.0.0.2");
        assert_eq!(subsets[0].ports.as_ref().unwrap()[0].port, 80);
        assert_eq!(made.metadata.labels.as_ref().unwrap()[MANAGED_BY], MANAGER);
        assert_eq!(plan(&service, &pods, Some(&made)), None);
        assert!(plan(&service, &pods[..1], Some(&made)).is_some());
    }

    #[test]
    fn a_headless_service_without_ports_lists_addresses_alone() {
        let service =
            service(json!({"clusterIP": "None", "ipFamilies": ["IPv4"], "publishNotReadyAddresses": true}));
        let made = plan(&service, &[pod("a", "10.0.0.1", false)], None).unwrap();
        let subset = &made.subsets.unwrap()[0];
        assert!(subset.ports.is_none() && subset.addresses.is_some() && subset.not_ready_addresses.is_none());
        assert!(made.metadata.labels.unwrap().contains_key(HEADLESS));
    }

    #[test]
    fn ready_addresses_are_kept_when_there_are_too_many() {
        let service =
            service(json!({"clusterIP": "10.96.0.7", "ipFamilies": ["IPv4"], "ports": [{"port": 80}]}));
        let pods: Vec<Arc<Pod>> = (0..1100)
            .map(|i| {
                pod(
                    &format!("p{i}"),
                    &format!("10.0.{}.{}", i / 200, i % 200),
                    i < 600,
                )
            })
            .collect();
        let made = plan(&service, &pods, None).unwrap();
        let subset = &made.subsets.as_ref().unwrap()[0];
        assert_eq!(subset.addresses.as_ref().unwrap().len(), 600);
        assert_eq!(subset.not_ready_addresses.as_ref().unwrap().len(), 400);
        assert_eq!(made.metadata.annotations.unwrap()[OVER_CAPACITY], "truncated");
    }
}

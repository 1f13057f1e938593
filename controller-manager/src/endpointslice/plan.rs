//! Decides how a Service's EndpointSlices change.
//!
//! Endpoints stay in the slice they are in; new ones fill up slices that change anyway, then others, then new ones, so that few objects
//! are written. A Service without any endpoint keeps one empty slice for each address family.

use crate::common::owners::{controller_reference, labels, name, namespace, uid};
use crate::common::pods::{is_deleting, is_ready, name_prefix, node_name};
use crate::common::services::{self, Family, HEADLESS};
use k8s_openapi::api::core::v1::{Node, ObjectReference, Pod, Service};
use k8s_openapi::api::discovery::v1::{
    Endpoint, EndpointConditions, EndpointHints, EndpointPort, EndpointSlice, ForNode, ForZone,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use std::collections::BTreeMap;
use std::sync::Arc;

/// The value of [`MANAGED_BY`] on our slices.
pub const MANAGER: &str = "endpointslice-controller.k8s.io";
/// The label that says whose a slice is.
pub const MANAGED_BY: &str = "endpointslice.kubernetes.io/managed-by";
/// The label that names the Service.
pub const SERVICE_NAME: &str = "kubernetes.io/service-name";
const ZONE: &str = "topology.kubernetes.io/zone";

/// What a Service's slices are decided from.
pub struct Snapshot<'a> {
    /// The Service.
    pub service: &'a Service,
    /// The pods that it selects.
    pub pods: &'a [Arc<Pod>],
    /// The slices of this controller for the Service that are not being deleted.
    pub slices: &'a [Arc<EndpointSlice>],
    /// Looks a node up.
    pub node: &'a dyn Fn(&str) -> Option<Arc<Node>>,
    /// How many endpoints a slice may hold.
    pub max_per_slice: usize,
}

/// What to write.
#[derive(Debug, Default, PartialEq)]
pub struct Plan {
    /// Slices to create; they have a name prefix only.
    pub create: Vec<EndpointSlice>,
    /// Slices to write back.
    pub update: Vec<EndpointSlice>,
    /// Slices to delete.
    pub delete: Vec<Arc<EndpointSlice>>,
    /// Pods that were left out because their node is not known (yet).
    pub without_node: Vec<String>,
}

type Ports = Vec<EndpointPort>;

/// Decides the writes.
pub fn plan(snapshot: &Snapshot<'_>) -> Plan {
    let mut plan = Plan::default();
    let families = services::families(snapshot.service);
    for slice in snapshot.slices {
        if !families.iter().any(|f| f.as_str() == slice.address_type) {
            plan.delete.push(slice.clone());
        }
    }
    for family in families {
        let mut part = plan_family(snapshot, family);
        reuse(&mut part, uid(&snapshot.service.metadata));
        plan.create.append(&mut part.create);
        plan.update.append(&mut part.update);
        plan.delete.append(&mut part.delete);
        plan.without_node.append(&mut part.without_node);
    }
    if snapshot.service.metadata.deletion_timestamp.is_some() {
        plan.create.clear();
    }
    plan.without_node.dedup();
    plan
}

/// Turns a deletion and a creation into one update.
fn reuse(plan: &mut Plan, service_uid: &str) {
    let (mut kept, doomed) = (Vec::new(), std::mem::take(&mut plan.delete));
    for old in doomed {
        match plan.create.pop() {
            Some(mut new) if owned_by(&old, service_uid) => {
                new.metadata.name.clone_from(&old.metadata.name);
                new.metadata.generate_name.clone_from(&old.metadata.generate_name);
                new.metadata
                    .resource_version
                    .clone_from(&old.metadata.resource_version);
                new.metadata.annotations.clone_from(&old.metadata.annotations);
                plan.update.push(new);
            }
            Some(new) => {
                plan.create.push(new);
                kept.push(old);
            }
            None => kept.push(old),
        }
    }
    plan.delete = kept;
}

fn held(slice: &EndpointSlice) -> &[Endpoint] {
    slice.endpoints.as_deref().unwrap_or_default()
}

fn owned_by(slice: &EndpointSlice, service_uid: &str) -> bool {
    slice
        .metadata
        .owner_references
        .iter()
        .flatten()
        .any(|r| r.uid == service_uid && r.kind == "Service" && r.api_version == "v1")
}

fn plan_family(snapshot: &Snapshot<'_>, family: Family) -> Plan {
    let service = snapshot.service;
    let mut plan = Plan::default();
    let mut wanted: BTreeMap<String, (Ports, Vec<Endpoint>)> = BTreeMap::new();
    for pod in snapshot.pods.iter().filter(|p| services::belongs(p, true)) {
        let ports = ports(service, pod);
        let group = wanted
            .entry(ports_key(&ports))
            .or_insert_with(|| (ports, Vec::new()));
        let node = (snapshot.node)(node_name(pod));
        if node.is_none() && !services::publishes_not_ready(service) {
            plan.without_node.push(name(&pod.metadata).to_owned());
            continue;
        }
        let addresses = services::addresses(pod, family);
        if !addresses.is_empty() {
            group.1.push(endpoint(pod, node.as_deref(), service, addresses));
        }
    }
    let mut existing: BTreeMap<String, Vec<Arc<EndpointSlice>>> = BTreeMap::new();
    let of_family = snapshot
        .slices
        .iter()
        .filter(|s| s.address_type == family.as_str());
    let mut count = 0;
    for slice in of_family {
        count += 1;
        if owned_by(slice, uid(&service.metadata)) {
            existing
                .entry(ports_key(slice.ports.as_deref().unwrap_or_default()))
                .or_default()
                .push(slice.clone());
        } else {
            plan.delete.push(slice.clone());
        }
    }
    for (key, (ports, endpoints)) in wanted {
        let slices = existing.remove(&key).unwrap_or_default();
        plan_group(snapshot, family, ports, slices, endpoints, &mut plan);
    }
    plan.delete.extend(existing.into_values().flatten());
    if plan.delete.len() == count && plan.create.is_empty() {
        let placeholder = new_slice(service, family, Vec::new());
        let is_placeholder = |slice: &EndpointSlice| {
            held(slice).is_empty()
                && slice.ports.as_ref().is_none_or(Vec::is_empty)
                && slice.metadata.labels == placeholder.metadata.labels
                && owned_by(slice, uid(&service.metadata))
        };
        match plan.delete.iter().position(|s| is_placeholder(s)) {
            Some(at) if count == 1 => drop(plan.delete.remove(at)),
            _ => plan.create.push(placeholder),
        }
    }
    plan
}

fn target(endpoint: &Endpoint) -> (Vec<String>, Option<String>) {
    (
        endpoint.addresses.clone(),
        endpoint.target_ref.as_ref().and_then(|t| t.uid.clone()),
    )
}

fn plan_group(
    snapshot: &Snapshot<'_>,
    family: Family,
    ports: Ports,
    slices: Vec<Arc<EndpointSlice>>,
    endpoints: Vec<Endpoint>,
    plan: &mut Plan,
) {
    let max = snapshot.max_per_slice.max(1);
    let mut wanted: BTreeMap<(Vec<String>, Option<String>), Endpoint> =
        endpoints.into_iter().map(|e| (target(&e), e)).collect();
    let (mut changed, mut unchanged) = (Vec::new(), Vec::new());
    for slice in slices {
        let kept: Vec<Endpoint> = held(&slice)
            .iter()
            .filter_map(|e| wanted.remove(&target(e)))
            .collect();
        let slice_labels = slice_labels(snapshot.service);
        let same = kept.len() == held(&slice).len()
            && kept.iter().zip(held(&slice)).all(|(a, b)| same_endpoint(a, b));
        if kept.is_empty() && !held(&slice).is_empty() {
            plan.delete.push(slice);
        } else if !same || slice.metadata.labels.as_ref() != Some(&slice_labels) {
            let mut slice = EndpointSlice::clone(&slice);
            slice.endpoints = Some(kept);
            slice.metadata.labels = Some(slice_labels);
            changed.push(slice);
        } else {
            unchanged.push(slice);
        }
    }
    let mut left: Vec<Endpoint> = wanted.into_values().collect();
    // Fullest first, so that slices fill up rather than spread.
    changed.sort_by_key(|s| std::cmp::Reverse(held(s).len()));
    for slice in &mut changed {
        let room = max.saturating_sub(held(slice).len()).min(left.len());
        slice.endpoints.get_or_insert_default().extend(left.drain(..room));
    }
    if !left.is_empty() && left.len() < max {
        let fits = unchanged
            .iter()
            .enumerate()
            .filter(|(_, s)| held(s).len() + left.len() <= max);
        if let Some(at) = fits.max_by_key(|(_, s)| held(s).len()).map(|(at, _)| at) {
            let mut slice = EndpointSlice::clone(&unchanged.remove(at));
            slice.endpoints.get_or_insert_default().append(&mut left);
            changed.push(slice);
        }
    }
    while !left.is_empty() {
        let mut slice = new_slice(snapshot.service, family, ports.clone());
        slice.endpoints = Some(left.drain(..max.min(left.len())).collect());
        plan.create.push(slice);
    }
    plan.update.append(&mut changed);
}

fn same_endpoint(a: &Endpoint, b: &Endpoint) -> bool {
    let clean = |e: &Endpoint| {
        let mut e = e.clone();
        if let Some(target) = &mut e.target_ref {
            target.resource_version = None;
        }
        e
    };
    clean(a) == clean(b)
}

fn ports(service: &Service, pod: &Pod) -> Ports {
    let ports = service.spec.iter().flat_map(|s| s.ports.iter().flatten());
    ports
        .filter_map(|port| {
            Some(EndpointPort {
                name: Some(port.name.clone().unwrap_or_default()),
                port: Some(services::target_port(pod, port)?),
                protocol: Some(port.protocol.clone().unwrap_or_else(|| "TCP".to_owned())),
                app_protocol: port.app_protocol.clone(),
            })
        })
        .collect()
}

fn ports_key(ports: &[EndpointPort]) -> String {
    let mut keys: Vec<String> = ports
        .iter()
        .map(|p| {
            let text = |v: &Option<String>| v.clone().unwrap_or_default();
            format!(
                "{}/{:?}/{}/{}",
                text(&p.name),
                p.port,
                text(&p.protocol),
                text(&p.app_protocol)
            )
        })
        .collect();
    keys.sort();
    keys.join(",")
}

fn endpoint(pod: &Pod, node: Option<&Node>, service: &Service, addresses: Vec<String>) -> Endpoint {
    let (serving, terminating) = (is_ready(pod), is_deleting(pod));
    let ready = services::publishes_not_ready(service) || (serving && !terminating);
    let zone = node
        .and_then(|n| n.metadata.labels.as_ref()?.get(ZONE).cloned())
        .filter(|z| !z.is_empty());
    let node_name = Some(node_name(pod).to_owned()).filter(|n| !n.is_empty());
    Endpoint {
        addresses,
        conditions: Some(EndpointConditions {
            ready: Some(ready),
            serving: Some(serving),
            terminating: Some(terminating),
        }),
        hints: if ready {
            hints(service, zone.as_deref(), node_name.as_deref())
        } else {
            None
        },
        hostname: services::hostname(pod, service),
        node_name,
        target_ref: Some(ObjectReference {
            kind: Some("Pod".to_owned()),
            namespace: pod.metadata.namespace.clone(),
            name: pod.metadata.name.clone(),
            uid: pod.metadata.uid.clone(),
            ..ObjectReference::default()
        }),
        zone,
        ..Endpoint::default()
    }
}

/// For whom an endpoint is meant first, by the Service's `trafficDistribution`.
fn hints(service: &Service, zone: Option<&str>, node: Option<&str>) -> Option<EndpointHints> {
    let distribution = service.spec.as_ref()?.traffic_distribution.as_deref()?;
    let same_node = match distribution {
        "PreferClose" | "PreferSameZone" => false,
        "PreferSameNode" => true,
        _ => return None,
    };
    let for_zones = zone.map(|name| {
        vec![ForZone {
            name: name.to_owned(),
        }]
    });
    let for_nodes = node.filter(|_| same_node).map(|name| {
        vec![ForNode {
            name: name.to_owned(),
        }]
    });
    (for_zones.is_some() || for_nodes.is_some()).then_some(EndpointHints { for_zones, for_nodes })
}

fn slice_labels(service: &Service) -> BTreeMap<String, String> {
    let mut all = labels(&service.metadata);
    all.remove(HEADLESS);
    if services::is_headless(service) {
        all.insert(HEADLESS.to_owned(), String::new());
    }
    all.insert(SERVICE_NAME.to_owned(), name(&service.metadata).to_owned());
    all.insert(MANAGED_BY.to_owned(), MANAGER.to_owned());
    all
}

fn new_slice(service: &Service, family: Family, ports: Ports) -> EndpointSlice {
    EndpointSlice {
        metadata: ObjectMeta {
            generate_name: Some(name_prefix(name(&service.metadata))),
            namespace: Some(namespace(&service.metadata).to_owned()),
            labels: Some(slice_labels(service)),
            owner_references: Some(vec![controller_reference(service)]),
            ..ObjectMeta::default()
        },
        address_type: family.as_str().to_owned(),
        endpoints: Some(Vec::new()),
        ports: Some(ports),
    }
}

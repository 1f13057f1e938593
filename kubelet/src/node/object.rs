//! The Node object from what is known about the machine. Pure.

use crate::pods::api_time;
use crate::resources::ResourceList;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{
    ContainerImage, DaemonEndpoint, Node, NodeAddress, NodeCondition, NodeDaemonEndpoints, NodeFeatures,
    NodeRuntimeHandler, NodeSpec, NodeStatus, NodeSystemInfo, Taint,
};
use std::collections::BTreeMap;
use std::net::IpAddr;

/// What is known about the node.
#[derive(Clone, Debug, Default)]
pub(crate) struct Facts {
    pub(crate) name: String,
    pub(crate) hostname: String,
    pub(crate) ips: Vec<IpAddr>,
    pub(crate) labels: BTreeMap<String, String>,
    pub(crate) taints: Vec<Taint>,
    pub(crate) provider_id: Option<String>,
    pub(crate) capacity: ResourceList,
    pub(crate) allocatable: ResourceList,
    pub(crate) info: NodeSystemInfo,
    pub(crate) port: u16,
    pub(crate) handlers: Vec<NodeRuntimeHandler>,
    pub(crate) features: Option<NodeFeatures>,
}

/// How the node is right now.
#[derive(Clone, Debug, Default)]
pub(crate) struct Health {
    /// What keeps the node from being ready.
    pub(crate) problems: Vec<String>,
    pub(crate) memory_pressure: bool,
    pub(crate) disk_pressure: bool,
    pub(crate) pid_pressure: bool,
    pub(crate) images: Vec<ContainerImage>,
    pub(crate) volumes_in_use: Vec<String>,
    /// What device plugins offer: capacity and allocatable.
    pub(crate) devices: (ResourceList, ResourceList),
}

/// The labels that every node carries.
pub(crate) fn standard_labels(facts: &Facts) -> BTreeMap<String, String> {
    let mut labels = facts.labels.clone();
    for (key, value) in [
        ("kubernetes.io/hostname", facts.hostname.as_str()),
        ("kubernetes.io/os", "linux"),
        ("kubernetes.io/arch", facts.info.architecture.as_str()),
        ("beta.kubernetes.io/os", "linux"),
        ("beta.kubernetes.io/arch", facts.info.architecture.as_str()),
    ] {
        labels.insert(key.to_owned(), value.to_owned());
    }
    labels
}

/// The object by which the node registers.
pub(crate) fn new_node(facts: &Facts, health: &Health, now: Timestamp) -> Node {
    let mut node = Node::default();
    node.metadata.name = Some(facts.name.clone());
    node.metadata.labels = Some(standard_labels(facts));
    node.metadata.annotations = Some(
        [(
            "volumes.kubernetes.io/controller-managed-attach-detach".to_owned(),
            "true".to_owned(),
        )]
        .into(),
    );
    node.spec = Some(NodeSpec {
        provider_id: facts.provider_id.clone(),
        taints: (!facts.taints.is_empty()).then(|| facts.taints.clone()),
        ..NodeSpec::default()
    });
    node.status = Some(status(facts, health, &NodeStatus::default(), now));
    node
}

/// The node's addresses.
pub(crate) fn addresses(facts: &Facts) -> Vec<NodeAddress> {
    let address = |kind: &str, address: String| NodeAddress {
        type_: kind.to_owned(),
        address,
    };
    let mut out: Vec<NodeAddress> = facts
        .ips
        .iter()
        .map(|ip| address("InternalIP", ip.to_string()))
        .collect();
    out.push(address("Hostname", facts.hostname.clone()));
    out
}

/// The node's status. Fields and conditions of others are kept.
pub(crate) fn status(facts: &Facts, health: &Health, old: &NodeStatus, now: Timestamp) -> NodeStatus {
    let mut conditions: Vec<NodeCondition> = old.conditions.clone().unwrap_or_default();
    let mut set = |kind: &str, value: bool, reason: &str, message: String| {
        let text = if value { "True" } else { "False" }.to_owned();
        let before = conditions.iter().find(|c| c.type_ == kind);
        let since = match before {
            Some(before) if before.status == text => before.last_transition_time.clone(),
            _ => Some(api_time(now)),
        };
        let new = NodeCondition {
            type_: kind.to_owned(),
            status: text,
            reason: Some(reason.to_owned()),
            message: Some(message),
            last_heartbeat_time: Some(api_time(now)),
            last_transition_time: since,
        };
        match conditions.iter_mut().find(|c| c.type_ == kind) {
            Some(slot) => *slot = new,
            None => conditions.push(new),
        }
    };
    let mut pressure = |kind: &str, on: bool, yes: &str, no: &str, what: &str| {
        let message = if on {
            format!(
                "kubelet has {}",
                what.replace("sufficient", "insufficient")
                    .replace("no disk pressure", "disk pressure")
            )
        } else {
            format!("kubelet has {what}")
        };
        set(kind, on, if on { yes } else { no }, message);
    };
    pressure(
        "MemoryPressure",
        health.memory_pressure,
        "KubeletHasInsufficientMemory",
        "KubeletHasSufficientMemory",
        "sufficient memory available",
    );
    pressure(
        "DiskPressure",
        health.disk_pressure,
        "KubeletHasDiskPressure",
        "KubeletHasNoDiskPressure",
        "no disk pressure",
    );
    pressure(
        "PIDPressure",
        health.pid_pressure,
        "KubeletHasInsufficientPID",
        "KubeletHasSufficientPID",
        "sufficient PID available",
    );
    if health.problems.is_empty() {
        set(
            "Ready",
            true,
            "KubeletReady",
            "kubelet is posting ready status".to_owned(),
        );
    } else {
        let text = health.problems.join(", ");
        let text = if health.problems.len() > 1 {
            format!("[{text}]")
        } else {
            text
        };
        set("Ready", false, "KubeletNotReady", text);
    }
    NodeStatus {
        conditions: Some(conditions),
        addresses: Some(addresses(facts)),
        capacity: Some(with_others(
            &facts.capacity,
            &health.devices.0,
            old.capacity.as_ref(),
        )),
        allocatable: Some(with_others(
            &facts.allocatable,
            &health.devices.1,
            old.allocatable.as_ref(),
        )),
        node_info: Some(facts.info.clone()),
        daemon_endpoints: Some(NodeDaemonEndpoints {
            kubelet_endpoint: Some(DaemonEndpoint {
                port: i32::from(facts.port),
            }),
        }),
        images: Some(health.images.clone()),
        features: facts.features.clone(),
        runtime_handlers: (!facts.handlers.is_empty()).then(|| facts.handlers.clone()),
        volumes_in_use: (!health.volumes_in_use.is_empty()).then(|| health.volumes_in_use.clone()),
        volumes_attached: old.volumes_attached.clone(),
        ..NodeStatus::default()
    }
}

/// Adds what device plugins offer, and keeps extended resources that somebody else put on the node.
fn with_others(own: &ResourceList, devices: &ResourceList, old: Option<&ResourceList>) -> ResourceList {
    let mut out = own.clone();
    out.extend(devices.iter().map(|(n, q)| (n.clone(), q.clone())));
    for (name, amount) in old.into_iter().flatten() {
        let extended = name.contains('/') && !name.starts_with("kubernetes.io/");
        if extended {
            out.entry(name.clone()).or_insert_with(|| amount.clone());
        }
    }
    out
}

/// Whether two statuses say the same, apart from the time of the heartbeat.
pub(crate) fn same(a: &NodeStatus, b: &NodeStatus) -> bool {
    let still = |s: &NodeStatus| {
        let mut s = s.clone();
        for condition in s.conditions.iter_mut().flatten() {
            condition.last_heartbeat_time = None;
        }
        s
    };
    still(a) == still(b)
}

/// Whether the pod network's state is to be told as the runtime does.
pub(crate) fn is_ready(status: &NodeStatus) -> bool {
    status
        .conditions
        .iter()
        .flatten()
        .any(|c| c.type_ == "Ready" && c.status == "True")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn conditions_keep_their_transition_time_until_they_change() {
        let at = |s| Timestamp::from_second(s).expect("a time");
        let facts = Facts {
            name: "n".into(),
            ..Facts::default()
        };
        let first = status(&facts, &Health::default(), &NodeStatus::default(), at(100));
        let second = status(&facts, &Health::default(), &first, at(200));
        assert!(same(&first, &second) && first != second && is_ready(&second));
        let sick = Health {
            problems: vec!["a".into(), "b".into()],
            memory_pressure: true,
            ..Health::default()
        };
        let third = status(&facts, &sick, &second, at(300));
        let ready = third
            .conditions
            .iter()
            .flatten()
            .find(|c| c.type_ == "Ready")
            .expect("a condition");
        assert_eq!(ready.message.as_deref(), Some("[a, b]"));
        assert_eq!(ready.last_transition_time, Some(api_time(at(300))));
        let memory = third
            .conditions
            .iter()
            .flatten()
            .find(|c| c.type_ == "MemoryPressure")
            .expect("a condition");
        assert_eq!(
            memory.message.as_deref(),
            Some("kubelet has insufficient memory available")
        );
    }
}

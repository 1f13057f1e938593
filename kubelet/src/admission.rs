//! Whether a pod may run on this node: what the scheduler checked, checked again against what really runs here. Pure.

use crate::pods::{PodExt, is_sidecar};
use crate::resources::{ResourceList, amount, pod_requests};
use crate::worker::Failure;
use k8s_openapi::api::core::v1::{Node, NodeSelectorRequirement, NodeSelectorTerm, Pod};
use std::collections::BTreeMap;
use std::sync::Arc;

/// Turns a pod away for good.
pub(crate) fn refuse(reason: &str, message: String) -> Failure {
    Failure {
        reason: reason.to_owned(),
        message,
        grace: None,
        rejected: true,
        disruption: None,
    }
}

/// Lets a pod in, or says why not.
pub(crate) fn admit(
    pod: &Pod,
    others: &[Arc<Pod>],
    node: &Node,
    allocatable: &ResourceList,
) -> Result<(), Failure> {
    if pod.spec().os.as_ref().is_some_and(|os| os.name != "linux") {
        return Err(refuse(
            "PodOSNotSupported",
            "Failed to admit pod as the OS field doesn't match node OS".to_owned(),
        ));
    }
    check_resources(pod, others, allocatable)?;
    if pod.is_static() {
        return Ok(());
    }
    let name = pod.spec().node_name.as_deref().unwrap_or_default();
    if node.metadata.name.as_deref() != Some(name) {
        return Err(refuse(
            "NodeName",
            "Predicate NodeName failed: node(s) didn't match the requested node name".to_owned(),
        ));
    }
    if !selects(pod, node) {
        return Err(refuse(
            "NodeAffinity",
            "Predicate NodeAffinity failed: node(s) didn't match Pod's node affinity/selector".to_owned(),
        ));
    }
    if let Some(taint) = untolerated(pod, node) {
        return Err(refuse(
            "TaintToleration",
            format!("Predicate TaintToleration failed: node(s) had untolerated taint {{{taint}}}"),
        ));
    }
    let taken: Vec<(i32, String, String)> = others.iter().flat_map(|p| host_ports(p)).collect();
    for (port, protocol, ip) in host_ports(pod) {
        let any = |ip: &str| ip.is_empty() || ip == "0.0.0.0" || ip == "::";
        let clash = taken
            .iter()
            .any(|(p, proto, own)| *p == port && *proto == protocol && (any(own) || any(&ip) || *own == ip));
        if clash {
            return Err(refuse(
                "NodePorts",
                "Predicate NodePorts failed: node(s) didn't have free ports for the requested pod ports"
                    .to_owned(),
            ));
        }
    }
    Ok(())
}

fn host_ports(pod: &Pod) -> Vec<(i32, String, String)> {
    let containers = pod
        .spec()
        .containers
        .iter()
        .chain(pod.init_containers().iter().filter(|c| is_sidecar(c)));
    containers
        .flat_map(|c| c.ports.iter().flatten())
        .filter_map(|p| {
            let port = p.host_port.filter(|h| *h > 0)?;
            let protocol = p.protocol.clone().unwrap_or_else(|| "TCP".to_owned());
            Some((port, protocol, p.host_ip.clone().unwrap_or_default()))
        })
        .collect()
}

fn check_resources(pod: &Pod, others: &[Arc<Pod>], allocatable: &ResourceList) -> Result<(), Failure> {
    let capacity = amount(Some(allocatable), "pods").unwrap_or(110);
    let running = i64::try_from(others.len()).unwrap_or(i64::MAX);
    if running + 1 > capacity {
        return Err(refuse(
            "OutOfpods",
            format!(
                "Node didn't have enough resource: pods, requested: 1, used: {running}, capacity: {capacity}"
            ),
        ));
    }
    match shortage(&pod_requests(pod), others, allocatable) {
        Some((name, message)) => Err(refuse(&format!("OutOf{name}"), message)),
        None => Ok(()),
    }
}

/// The first resource of which a request finds too little beside other pods, with what to say about it.
pub(crate) fn shortage(
    requests: &BTreeMap<String, i64>,
    others: &[Arc<Pod>],
    allocatable: &ResourceList,
) -> Option<(String, String)> {
    let mut used: BTreeMap<String, i64> = BTreeMap::new();
    for other in others {
        for (name, amount) in pod_requests(other) {
            *used.entry(name).or_default() += amount;
        }
    }
    requests.iter().filter(|(_, requested)| **requested > 0).find_map(|(name, requested)| {
        // What the node doesn't know is somebody else's to count, such as extended resources of the whole cluster.
        if name.contains('/') && !allocatable.contains_key(name) {
            return None;
        }
        let used = used.get(name).copied().unwrap_or(0);
        let capacity = amount(Some(allocatable), name).unwrap_or(0);
        (used.saturating_add(*requested) > capacity).then(|| {
            let message = format!(
                "Node didn't have enough resource: {name}, requested: {requested}, used: {used}, capacity: {capacity}"
            );
            (name.clone(), message)
        })
    })
}

/// Whether the pod's node selector and required affinity choose the node.
fn selects(pod: &Pod, node: &Node) -> bool {
    let empty = BTreeMap::new();
    let labels = node.metadata.labels.as_ref().unwrap_or(&empty);
    let by_selector = pod
        .spec()
        .node_selector
        .iter()
        .flatten()
        .all(|(k, v)| labels.get(k) == Some(v));
    let required = pod
        .spec()
        .affinity
        .as_ref()
        .and_then(|a| a.node_affinity.as_ref())
        .and_then(|a| a.required_during_scheduling_ignored_during_execution.as_ref());
    let name = node.metadata.name.as_deref().unwrap_or_default();
    by_selector
        && required.is_none_or(|r| {
            r.node_selector_terms
                .iter()
                .any(|t| term_matches(t, labels, name))
        })
}

fn term_matches(term: &NodeSelectorTerm, labels: &BTreeMap<String, String>, name: &str) -> bool {
    let expressions = term.match_expressions.as_deref().unwrap_or_default();
    let fields = term.match_fields.as_deref().unwrap_or_default();
    if expressions.is_empty() && fields.is_empty() {
        return false;
    }
    expressions
        .iter()
        .all(|e| requirement_matches(e, labels.get(&e.key).map(String::as_str)))
        && fields
            .iter()
            .all(|f| requirement_matches(f, (f.key == "metadata.name").then_some(name)))
}

fn requirement_matches(requirement: &NodeSelectorRequirement, value: Option<&str>) -> bool {
    let values = requirement.values.as_deref().unwrap_or_default();
    let listed = value.is_some_and(|v| values.iter().any(|x| x == v));
    let number = |text: &str| text.parse::<i64>().ok();
    let bound = values.first().and_then(|v| number(v));
    match requirement.operator.as_str() {
        "In" => listed,
        "NotIn" => !listed,
        "Exists" => value.is_some(),
        "DoesNotExist" => value.is_none(),
        "Gt" => value.and_then(number).zip(bound).is_some_and(|(v, b)| v > b),
        "Lt" => value.and_then(number).zip(bound).is_some_and(|(v, b)| v < b),
        _ => false,
    }
}

/// The first NoExecute taint of the node that the pod doesn't tolerate; other effects are the scheduler's affair.
fn untolerated(pod: &Pod, node: &Node) -> Option<String> {
    let taints = node
        .spec
        .as_ref()
        .and_then(|s| s.taints.as_deref())
        .unwrap_or_default();
    let tolerations = pod.spec().tolerations.as_deref().unwrap_or_default();
    taints
        .iter()
        .filter(|t| t.effect == "NoExecute")
        .find(|taint| {
            !tolerations.iter().any(|t| {
                let effect = t.effect.as_deref().unwrap_or_default();
                let key = t.key.as_deref().unwrap_or_default();
                let exists = t.operator.as_deref() == Some("Exists");
                (effect.is_empty() || effect == taint.effect)
                    && (key == taint.key || key.is_empty() && exists)
                    && (exists
                        || t.value.as_deref().unwrap_or_default()
                            == taint.value.as_deref().unwrap_or_default())
            })
        })
        .map(|t| format!("{}: {}", t.key, t.value.as_deref().unwrap_or_default()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn pod(spec: Value) -> Pod {
        serde_json::from_value(json!({"metadata": {"name": "p", "uid": "u"}, "spec": spec})).expect("a pod")
    }

    fn check(spec: Value, others: &[Value], taints: Value) -> Result<(), String> {
        let node: Node = serde_json::from_value(
            json!({"metadata": {"name": "n", "labels": {"disk": "ssd", "size": "5"}},
            "spec": {"taints": taints}}),
        )
        .expect("a node");
        let allocatable: ResourceList =
            serde_json::from_value(json!({"cpu": "2", "memory": "1Gi", "pods": "3"})).expect("a list");
        let others: Vec<Arc<Pod>> = others.iter().map(|s| Arc::new(pod(s.clone()))).collect();
        let mut spec = spec;
        spec["nodeName"] = json!("n");
        admit(&pod(spec), &others, &node, &allocatable).map_err(|f| f.reason)
    }

    #[test]
    fn a_pod_gets_in_when_all_of_it_fits() {
        let cpu = |c: &str| json!({"containers": [{"name": "a", "resources": {"requests": {"cpu": c}}}]});
        let port =
            |p: i32| json!({"containers": [{"name": "a", "ports": [{"containerPort": 1, "hostPort": p}]}]});
        let want = |selector: Value| json!({"containers": [], "nodeSelector": selector});
        let affinity = |op: &str, values: Value| {
            json!({"containers": [], "affinity": {"nodeAffinity": {
            "requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [
                {"matchExpressions": [{"key": "size", "operator": op, "values": values}]}]}}}})
        };
        let none = json!([]);
        let err = |r: &str| Err(r.to_owned());
        for (spec, others, taints, result) in [
            (cpu("1500m"), vec![], &none, Ok(())),
            (cpu("1500m"), vec![cpu("600m")], &none, err("OutOfcpu")),
            (
                cpu("0"),
                vec![cpu("0"), cpu("0"), cpu("0")],
                &none,
                err("OutOfpods"),
            ),
            (port(80), vec![port(80)], &none, err("NodePorts")),
            (port(80), vec![port(81)], &none, Ok(())),
            (want(json!({"disk": "ssd"})), vec![], &none, Ok(())),
            (want(json!({"disk": "hdd"})), vec![], &none, err("NodeAffinity")),
            (affinity("Gt", json!(["4"])), vec![], &none, Ok(())),
            (affinity("Lt", json!(["4"])), vec![], &none, err("NodeAffinity")),
            (
                cpu("0"),
                vec![],
                &json!([{"key": "k", "effect": "NoSchedule"}]),
                Ok(()),
            ),
            (
                cpu("0"),
                vec![],
                &json!([{"key": "k", "effect": "NoExecute"}]),
                err("TaintToleration"),
            ),
        ] {
            assert_eq!(check(spec.clone(), &others, taints.clone()), result, "{spec}");
        }
    }
}

//! Whether a pod may be on a node, as the scheduler would see it: names, selectors, affinity and taints.

use crate::common::owners::name;
use crate::taint_eviction::plan::tolerates;
use k8s_openapi::api::core::v1::{
    Affinity, Node, NodeAffinity, NodeSelector, NodeSelectorRequirement, NodeSelectorTerm, PodSpec, Taint,
    Toleration,
};

/// Whether a node fits a pod's `nodeSelector` and required node affinity.
pub fn selects(spec: &PodSpec, node: &Node) -> bool {
    let labels = node.metadata.labels.clone().unwrap_or_default();
    if spec
        .node_selector
        .iter()
        .flatten()
        .any(|(k, v)| labels.get(k) != Some(v))
    {
        return false;
    }
    required(spec).is_none_or(|selector| matches(selector, node))
}

fn required(spec: &PodSpec) -> Option<&NodeSelector> {
    spec.affinity
        .as_ref()?
        .node_affinity
        .as_ref()?
        .required_during_scheduling_ignored_during_execution
        .as_ref()
}

/// Whether one of a selector's terms fits a node. A term without requirements fits none.
pub fn matches(selector: &NodeSelector, node: &Node) -> bool {
    let labels = node.metadata.labels.clone().unwrap_or_default();
    selector.node_selector_terms.as_slice().iter().any(|term| {
        let (expressions, fields) = (
            term.match_expressions.as_deref().unwrap_or_default(),
            term.match_fields.as_deref().unwrap_or_default(),
        );
        let field = |key: &str| (key == "metadata.name").then(|| name(&node.metadata).to_owned());
        !(expressions.is_empty() && fields.is_empty())
            && expressions
                .iter()
                .all(|r| fits(r, labels.get(&r.key).map(String::as_str)))
            && fields.iter().all(|r| fits(r, field(&r.key).as_deref()))
    })
}

fn fits(requirement: &NodeSelectorRequirement, value: Option<&str>) -> bool {
    let values = requirement.values.as_deref().unwrap_or_default();
    let number = |text: &str| text.parse::<i64>().ok();
    let compare =
        |f: fn(&i64, &i64) -> bool| match (value.and_then(number), values.first().and_then(|v| number(v))) {
            (Some(a), Some(b)) => f(&a, &b),
            _ => false,
        };
    match requirement.operator.as_str() {
        "In" => value.is_some_and(|v| values.iter().any(|w| w == v)),
        "NotIn" => value.is_none_or(|v| values.iter().all(|w| w != v)),
        "Exists" => value.is_some(),
        "DoesNotExist" => value.is_none(),
        "Gt" => compare(i64::gt),
        "Lt" => compare(i64::lt),
        _ => false,
    }
}

/// The first taint with one of these effects that the tolerations don't cover.
pub fn untolerated<'a>(node: &'a Node, tolerations: &[Toleration], effects: &[&str]) -> Option<&'a Taint> {
    let taints = node.spec.as_ref()?.taints.as_ref()?;
    taints
        .iter()
        .find(|t| effects.contains(&t.effect.as_str()) && !tolerations.iter().any(|tol| tolerates(tol, t)))
}

/// Lets the scheduler choose this node alone.
pub fn pin(spec: &mut PodSpec, node: &str) {
    let by_name = NodeSelectorRequirement {
        key: "metadata.name".to_owned(),
        operator: "In".to_owned(),
        values: Some(vec![node.to_owned()]),
    };
    let affinity: &mut Affinity = spec.affinity.get_or_insert_default();
    let affinity: &mut NodeAffinity = affinity.node_affinity.get_or_insert_default();
    let selector = affinity
        .required_during_scheduling_ignored_during_execution
        .get_or_insert_default();
    let mut terms: Vec<NodeSelectorTerm> = selector.node_selector_terms.as_slice().to_vec();
    if terms.is_empty() {
        terms.push(NodeSelectorTerm::default());
    }
    for term in &mut terms {
        term.match_fields = Some(vec![by_name.clone()]);
    }
    selector.node_selector_terms = terms;
}

/// The node that a pod was pinned to.
pub fn pinned(spec: &PodSpec) -> Option<&str> {
    let terms = required(spec)?.node_selector_terms.as_slice();
    let field = terms
        .first()?
        .match_fields
        .as_ref()?
        .iter()
        .find(|f| f.key == "metadata.name" && f.operator == "In")?;
    field.values.as_ref()?.first().map(String::as_str)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_node_fits_by_its_labels_and_name() {
        let node: Node = serde_json::from_value(
            json!({"metadata": {"name": "n1", "labels": {"disk": "ssd", "cpus": "8"}}}),
        )
        .unwrap();
        let affinity = |term| json!({"affinity": {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [term]}}}});
        let expression = |key: &str, operator: &str, values| {
            affinity(json!({"matchExpressions": [{"key": key, "operator": operator, "values": values}]}))
        };
        for (what, spec, want) in [
            ("no wish", json!({}), true),
            ("a label", json!({"nodeSelector": {"disk": "ssd"}}), true),
            ("another label", json!({"nodeSelector": {"disk": "hdd"}}), false),
            ("in", expression("disk", "In", json!(["ssd"])), true),
            ("not in", expression("disk", "NotIn", json!(["ssd"])), false),
            ("exists", expression("gpu", "Exists", json!([])), false),
            ("greater", expression("cpus", "Gt", json!(["4"])), true),
            ("less", expression("cpus", "Lt", json!(["4"])), false),
            ("an empty term", affinity(json!({})), false),
        ] {
            let mut spec = spec;
            spec["containers"] = json!([]);
            let mut spec: PodSpec = serde_json::from_value(spec).unwrap();
            assert_eq!(selects(&spec, &node), want, "{what}");
            pin(&mut spec, "n2");
            assert!(
                !selects(&spec, &node) && pinned(&spec) == Some("n2"),
                "{what}, pinned elsewhere"
            );
        }
    }
}

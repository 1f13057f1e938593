//! Pod.

mod check;
mod columns;
mod gated;
mod resize;

pub(crate) use check::{copy, same};

use crate::amount::{self, Amounts};
use crate::fill::{Fields, absent, each, inside, number, spec};
use crate::podcheck;
use crate::podspec::default_pod_spec;
use rutter_api::object::ObjectExt;
use rutter_api::strategy::{Column, Grace, prepare_plain_update};
use rutter_api::{Context, ErrorList, Map, Strategy, Value};
use serde_json::json;

/// Pod.
pub(crate) struct Pod;

impl Strategy for Pod {
    fn default_object(&self, object: &mut Value) {
        mirror_addresses(object);
        let Some(spec) = spec(object) else { return };
        for list in ["containers", "initContainers"] {
            for container in each(spec, list) {
                requests_from_limits(container);
            }
        }
        default_pod_resources(spec);
        absent(spec, "enableServiceLinks", true);
        if spec.get("hostNetwork").and_then(Value::as_bool) == Some(true) {
            for list in ["containers", "initContainers"] {
                for port in each(spec, list).flat_map(|container| each(container, "ports")) {
                    let container_port = port
                        .get("containerPort")
                        .and_then(Value::as_i64)
                        .unwrap_or_default();
                    number(port, "hostPort", container_port);
                }
            }
        }
        default_pod_spec(spec);
    }

    fn prepare_create(&self, object: &mut Value, _cx: &Context<'_>) {
        let mut status = json!({"phase": "Pending", "qosClass": amount::qos_class(object.at("spec"))});
        if !object.list_at("spec.schedulingGates").is_empty() {
            status.set(
                "conditions",
                json!([{
                    "type": "PodScheduled",
                    "status": "False",
                    "reason": "SchedulingGated",
                    "message": "Scheduling is blocked due to non-empty scheduling gates",
                    "lastProbeTime": null,
                    "lastTransitionTime": null,
                }]),
            );
        }
        object.set("status", status);
        apply_match_label_keys(object);
    }

    fn prepare_update(&self, object: &mut Value, old: &Value, cx: &Context<'_>) {
        match cx.subresource {
            "status" => {
                prepare_plain_update(object, old, cx);
                keep_owners(object, old);
                if object.str_at("status.qosClass").is_empty() && !old.str_at("status.qosClass").is_empty() {
                    object.set("status.qosClass", old.at("status.qosClass").clone());
                }
                keep_observed_generations(object, old);
            }
            "ephemeralcontainers" => {
                let containers = object.at("spec.ephemeralContainers").clone();
                restore(object, old, &["spec", "status"]);
                keep_metadata(object, old);
                put(object, "ephemeralContainers", containers);
            }
            "resize" => keep_all_but_resources(object, old),
            _ => prepare_plain_update(object, old, cx),
        }
    }

    fn validate_create(&self, object: &Value, _cx: &Context<'_>) -> ErrorList {
        check::create(object)
    }

    fn validate_update(&self, object: &Value, old: &Value, cx: &Context<'_>) -> ErrorList {
        check::update(object, old, cx)
    }

    fn selectable_fields(&self) -> &'static [&'static str] {
        &[
            "spec.nodeName",
            "spec.restartPolicy",
            "spec.schedulerName",
            "spec.serviceAccountName",
            "spec.hostNetwork",
            "status.phase",
            "status.podIP",
            "status.nominatedNodeName",
        ]
    }

    fn field_values(&self, object: &Value) -> Vec<String> {
        let spec = object.at("spec");
        let status = object.at("status");
        let ip = status
            .list_at("podIPs")
            .first()
            .map_or_else(|| status.str_at("podIP"), |ip| ip.str_at("ip"));
        vec![
            spec.str_at("nodeName").to_owned(),
            spec.str_at("restartPolicy").to_owned(),
            spec.str_at("schedulerName").to_owned(),
            spec.str_at("serviceAccountName").to_owned(),
            spec.bool_at("hostNetwork").unwrap_or_default().to_string(),
            status.str_at("phase").to_owned(),
            ip.to_owned(),
            status.str_at("nominatedNodeName").to_owned(),
        ]
    }

    fn warnings(&self, object: &Value, old: Option<&Value>) -> Vec<String> {
        if old.is_none() {
            podcheck::warnings::new_pod(object)
        } else {
            Vec::new()
        }
    }

    fn columns(&self) -> &'static [Column] {
        columns::COLUMNS
    }

    fn row(&self, object: &Value, cx: &Context<'_>) -> Vec<Value> {
        columns::row(object, cx)
    }

    /// The grace that is asked for, or else the pod's own; none where no kubelet can be running it.
    fn grace(&self, object: &Value, asked: Option<i64>) -> Grace {
        let seconds = asked
            .or_else(|| object.int_at("spec.terminationGracePeriodSeconds"))
            .unwrap_or_default();
        let over = matches!(object.str_at("status.phase"), "Failed" | "Succeeded");
        if over || object.str_at("spec.nodeName").is_empty() {
            return Grace::Seconds(0);
        }
        Grace::Seconds(if seconds < 0 { 1 } else { seconds })
    }
}

/// `podIP` and `hostIP` are the first of `podIPs` and `hostIPs`.
fn mirror_addresses(object: &mut Value) {
    let Some(status) = object.get_mut("status").and_then(Value::as_object_mut) else {
        return;
    };
    for (one, all) in [("podIP", "podIPs"), ("hostIP", "hostIPs")] {
        let first = status
            .get(all)
            .and_then(|list| list.get(0))
            .map(|ip| ip.str_at("ip").to_owned());
        let single = crate::fill::text_of(status, one).to_owned();
        match first {
            Some(first) if one == "podIP" && first != single => {
                status.insert(one.to_owned(), Value::from(first));
            }
            None if one == "podIP" && !single.is_empty() => {
                status.insert(all.to_owned(), json!([{"ip": single}]));
            }
            _ => {}
        }
    }
}

fn requests_from_limits(container: &mut Fields) {
    let Some(resources) = inside(container, "resources") else {
        return;
    };
    let Some(limits) = resources
        .get("limits")
        .and_then(Value::as_object)
        .filter(|l| !l.is_empty())
        .cloned()
    else {
        return;
    };
    if let Some(requests) = crate::fill::made(resources, "requests") {
        for (name, limit) in limits {
            requests.entry(name).or_insert(limit);
        }
    }
}

fn is_pod_level(name: &str) -> bool {
    matches!(name, "cpu" | "memory") || name.starts_with("hugepages-")
}

/// Resources of the whole pod, where it names some: huge page limits come from the containers, requests from the
/// containers or else from the limits.
fn default_pod_resources(spec: &mut Fields) {
    if spec.get("resources").is_none_or(Value::is_null) {
        return;
    }
    let whole = Value::Object(std::mem::take(spec));
    let mut limits = amount::amounts(whole.at("resources.limits"));
    let mut requests = amount::amounts(whole.at("resources.requests"));
    if !limits.is_empty() || !requests.is_empty() {
        for (name, limit) in amount::of_containers(&whole, "limits") {
            if name.starts_with("hugepages-") && !requests.contains_key(&name) {
                limits.entry(name).or_insert(limit);
            }
        }
    }
    if !limits.is_empty() {
        for (name, request) in amount::of_containers(&whole, "requests") {
            if matches!(name.as_str(), "cpu" | "memory") {
                requests.entry(name).or_insert(request);
            }
        }
        for (name, limit) in &limits {
            if is_pod_level(name) {
                requests.entry(name.clone()).or_insert(*limit);
            }
        }
    }
    if let Value::Object(fields) = whole {
        *spec = fields;
    }
    if let Some(resources) = inside(spec, "resources") {
        for (field, amounts) in [("limits", limits), ("requests", requests)] {
            fill_amounts(resources, field, &amounts);
        }
    }
}

/// Adds the amounts that aren't there, leaving the others as they are written.
fn fill_amounts(resources: &mut Fields, field: &str, amounts: &Amounts) {
    if amounts.is_empty() {
        return;
    }
    if let Some(present) = crate::fill::made(resources, field) {
        for (name, amount) in amount::to_map(amounts) {
            present.entry(name).or_insert(amount);
        }
    }
}

/// Turns `matchLabelKeys` and `mismatchLabelKeys` into requirements on the labels this pod has.
fn apply_match_label_keys(object: &mut Value) {
    let Some(labels) = object.map_at("metadata.labels").cloned() else {
        return;
    };
    for affinity in ["podAffinity", "podAntiAffinity"] {
        let base = format!("spec.affinity.{affinity}");
        let required = format!("{base}.requiredDuringSchedulingIgnoredDuringExecution");
        for term in object.list_at_mut(&required).into_iter().flatten() {
            require_labels(term, &labels);
        }
        let preferred = format!("{base}.preferredDuringSchedulingIgnoredDuringExecution");
        for weighted in object.list_at_mut(&preferred).into_iter().flatten() {
            if let Some(term) = weighted.get_mut("podAffinityTerm") {
                require_labels(term, &labels);
            }
        }
    }
    for constraint in object
        .list_at_mut("spec.topologySpreadConstraints")
        .into_iter()
        .flatten()
    {
        require_labels(constraint, &labels);
    }
}

fn require_labels(term: &mut Value, labels: &Map<String, Value>) {
    if term.at("labelSelector").is_null() {
        return;
    }
    let mut more = Vec::new();
    for (field, operator) in [("matchLabelKeys", "In"), ("mismatchLabelKeys", "NotIn")] {
        for key in term.list_at(field).iter().filter_map(Value::as_str) {
            if let Some(value) = labels.get(key) {
                more.push(json!({"key": key, "operator": operator, "values": [value]}));
            }
        }
    }
    if more.is_empty() {
        return;
    }
    match term.list_at_mut("labelSelector.matchExpressions") {
        Some(list) => list.extend(more),
        None => term.set("labelSelector.matchExpressions", more),
    }
}

/// Puts fields of the old object back.
fn restore(object: &mut Value, old: &Value, fields: &[&str]) {
    for field in fields {
        match old.get(*field) {
            Some(value) => object.set(field, value.clone()),
            None => {
                object.take_at(field);
            }
        }
    }
}

fn put(object: &mut Value, field: &str, value: Value) {
    let Some(spec) = spec(object) else { return };
    if value.is_null() {
        spec.remove(field);
    } else {
        spec.insert(field.to_owned(), value);
    }
}

fn keep_owners(object: &mut Value, old: &Value) {
    match old.at("metadata.ownerReferences") {
        Value::Null => {
            object.take_at("metadata.ownerReferences");
        }
        owners => object.set("metadata.ownerReferences", owners.clone()),
    }
}

/// Writes to a subresource leave what people set in the metadata as it was.
fn keep_metadata(object: &mut Value, old: &Value) {
    for field in ["labels", "annotations", "finalizers", "ownerReferences"] {
        let path = format!("metadata.{field}");
        match old.at(&path) {
            Value::Null => {
                object.take_at(&path);
            }
            value => object.set(&path, value.clone()),
        }
    }
}

/// A status writer that doesn't know observed generations doesn't undo them.
fn keep_observed_generations(object: &mut Value, old: &Value) {
    let of = |value: &Value| value.int_at("observedGeneration").unwrap_or_default();
    if of(object.at("status")) == 0 && of(old.at("status")) != 0 {
        object.set("status.observedGeneration", of(old.at("status")));
    }
    let Some(conditions) = object.list_at_mut("status.conditions") else {
        return;
    };
    for condition in conditions {
        let before = old
            .list_at("status.conditions")
            .iter()
            .find(|c| c.str_at("type") == condition.str_at("type"));
        let generation = before.map(of).unwrap_or_default();
        if of(condition) == 0 && generation != 0 {
            condition.set("observedGeneration", generation);
        }
    }
}

/// A resize changes resources and resize policies and nothing else. Lists of containers that don't pair up are left for
/// validation to refuse.
fn keep_all_but_resources(object: &mut Value, old: &Value) {
    let names = |pod: &Value, list: &str| -> Vec<String> {
        pod.at("spec")
            .list_at(list)
            .iter()
            .map(|c| c.str_at("name").to_owned())
            .collect()
    };
    let paired = ["containers", "initContainers"].iter().all(|list| {
        let (new, old) = (names(object, list), names(old, list));
        new.len() == old.len()
    });
    if !paired {
        return;
    }
    let new = object.take_at("spec").unwrap_or_default();
    restore(object, old, &["spec", "status"]);
    keep_metadata(object, old);
    put(object, "resources", new.at("resources").clone());
    for list in ["containers", "initContainers"] {
        if new
            .list_at(list)
            .iter()
            .zip(old.at("spec").list_at(list))
            .any(|(n, o)| n.str_at("name") != o.str_at("name"))
        {
            put(object, list, new.at(list).clone());
            continue;
        }
        let containers = object.at_mut("spec").list_at_mut(list).into_iter().flatten();
        for (container, changed) in containers.zip(new.list_at(list)) {
            for field in ["resources", "resizePolicy"] {
                match changed.at(field) {
                    Value::Null => {
                        container.take_at(field);
                    }
                    value => container.set(field, value.clone()),
                }
            }
        }
    }
}

#[cfg(test)]
mod tests;

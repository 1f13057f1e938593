//! `autoscaling/v1` to `autoscaling/v2` and back.
//!
//! v1 knows one metric, the use of processors; all others, and the behavior, travel in annotations, so that a round trip
//! through v1 loses nothing.

use crate::fill::Fields;
use rutter_api::object::ObjectExt;
use rutter_api::{Map, Value};
use serde_json::json;

const METRICS: &str = "autoscaling.alpha.kubernetes.io/metrics";
const STATUSES: &str = "autoscaling.alpha.kubernetes.io/current-metrics";
const CONDITIONS: &str = "autoscaling.alpha.kubernetes.io/conditions";
const BEHAVIOR: &str = "autoscaling.alpha.kubernetes.io/behavior";
const TOLERANCE: [&str; 2] = [
    "autoscaling.alpha.kubernetes.io/scale-down-tolerance",
    "autoscaling.alpha.kubernetes.io/scale-up-tolerance",
];

/// Where a part of a metric stands in v1 and in v2.
type Names = &'static [(&'static str, &'static str)];

/// The kinds of metrics, with the names of the parts of their spec.
const SPECS: &[(&str, Names)] = &[
    (
        "external",
        &[
            ("metricName", "metric.name"),
            ("metricSelector", "metric.selector"),
            ("targetValue", "target.value"),
            ("targetAverageValue", "target.averageValue"),
        ],
    ),
    (
        "object",
        &[
            ("target", "describedObject"),
            ("metricName", "metric.name"),
            ("selector", "metric.selector"),
            ("targetValue", "target.value"),
            ("averageValue", "target.averageValue"),
        ],
    ),
    (
        "pods",
        &[
            ("metricName", "metric.name"),
            ("selector", "metric.selector"),
            ("targetAverageValue", "target.averageValue"),
        ],
    ),
    (
        "resource",
        &[
            ("name", "name"),
            ("targetAverageUtilization", "target.averageUtilization"),
            ("targetAverageValue", "target.averageValue"),
        ],
    ),
    (
        "containerResource",
        &[
            ("name", "name"),
            ("container", "container"),
            ("targetAverageUtilization", "target.averageUtilization"),
            ("targetAverageValue", "target.averageValue"),
        ],
    ),
];

/// The same of their status.
const STATUS: &[(&str, Names)] = &[
    (
        "external",
        &[
            ("metricName", "metric.name"),
            ("metricSelector", "metric.selector"),
            ("currentValue", "current.value"),
            ("currentAverageValue", "current.averageValue"),
        ],
    ),
    (
        "object",
        &[
            ("target", "describedObject"),
            ("metricName", "metric.name"),
            ("selector", "metric.selector"),
            ("currentValue", "current.value"),
            ("averageValue", "current.averageValue"),
        ],
    ),
    (
        "pods",
        &[
            ("metricName", "metric.name"),
            ("selector", "metric.selector"),
            ("currentAverageValue", "current.averageValue"),
        ],
    ),
    (
        "resource",
        &[
            ("name", "name"),
            ("currentAverageUtilization", "current.averageUtilization"),
            ("currentAverageValue", "current.averageValue"),
        ],
    ),
    (
        "containerResource",
        &[
            ("name", "name"),
            ("container", "container"),
            ("currentAverageUtilization", "current.averageUtilization"),
            ("currentAverageValue", "current.averageValue"),
        ],
    ),
];

fn metric_to_v1(metric: &Value, table: &[(&str, Names)]) -> Value {
    let mut out = json!({"type": metric.str_at("type")});
    for (field, names) in table {
        let source = metric.at(field);
        if source.is_null() {
            continue;
        }
        let mut part = json!({});
        for (old, new) in *names {
            if !source.at(new).is_null() {
                part.set(old, source.at(new).clone());
            }
        }
        out.set(field, part);
    }
    out
}

fn metric_to_v2(metric: &Value, table: &[(&str, Names)]) -> Value {
    let mut out = json!({"type": metric.str_at("type")});
    for (field, names) in table {
        let source = metric.at(field);
        if source.is_null() {
            continue;
        }
        let mut part = json!({});
        let zero_beside_average =
            *field == "object" && !source.at("averageValue").is_null() && source.at("targetValue") == "0";
        for (old, new) in *names {
            let left_out = zero_beside_average && *old == "targetValue";
            if !source.at(old).is_null() && !left_out {
                part.set(new, source.at(old).clone());
            }
        }
        if names.iter().any(|(_, new)| new.starts_with("target.")) {
            part.set("target.type", target_type(field, source));
        }
        out.set(field, part);
    }
    out
}

fn target_type(field: &str, source: &Value) -> &'static str {
    match field {
        "resource" | "containerResource" if !source.at("targetAverageUtilization").is_null() => "Utilization",
        "external" if !source.at("targetValue").is_null() => "Value",
        "object" if source.at("averageValue").is_null() => "Value",
        _ => "AverageValue",
    }
}

fn is_cpu_utilization(metric: &Value) -> bool {
    metric.str_at("type") == "Resource"
        && metric.str_at("resource.name") == "cpu"
        && !metric.at("resource.target.averageUtilization").is_null()
}

fn drop_round_trip(object: &mut Value) {
    if let Some(annotations) = object.get_mut("metadata").and_then(|m| m.get_mut("annotations"))
        && let Some(annotations) = annotations.as_object_mut()
    {
        for key in [METRICS, STATUSES, CONDITIONS, BEHAVIOR]
            .into_iter()
            .chain(TOLERANCE)
        {
            annotations.remove(key);
        }
    }
    if object
        .map_at("metadata.annotations")
        .is_some_and(|map| map.is_empty())
    {
        object.take_at("metadata.annotations");
    }
}

fn annotate(object: &mut Value, key: &str, value: &Value) {
    let metadata = object.at_mut("metadata.annotations");
    if !metadata.is_object() {
        *metadata = Value::Object(Map::new());
    }
    if let Some(annotations) = metadata.as_object_mut() {
        annotations.insert(key.to_owned(), Value::from(value.to_string()));
    }
}

fn annotated(object: &Value, key: &str) -> Option<Value> {
    serde_json::from_str(object.annotation(key)?).ok()
}

fn keep(fields: &Value, names: &[&str]) -> Fields {
    let kept = names
        .iter()
        .filter_map(|name| Some(((*name).to_owned(), fields.get(*name)?.clone())));
    kept.filter(|(_, value)| !value.is_null()).collect()
}

const SPEC_FIELDS: &[&str] = &["scaleTargetRef", "minReplicas", "maxReplicas"];
const STATUS_FIELDS: &[&str] = &[
    "observedGeneration",
    "lastScaleTime",
    "currentReplicas",
    "desiredReplicas",
];

/// The v1 shape of a v2 object.
pub(super) fn to_v1(mut object: Value) -> Value {
    let spec = object.take_at("spec").unwrap_or_default();
    let status = object.take_at("status").unwrap_or_default();
    drop_round_trip(&mut object);
    object.set("apiVersion", "autoscaling/v1");
    let mut new_spec = keep(&spec, SPEC_FIELDS);
    if let Some(cpu) = spec.list_at("metrics").iter().find(|m| is_cpu_utilization(m)) {
        let percent = cpu.at("resource.target.averageUtilization").clone();
        new_spec.insert("targetCPUUtilizationPercentage".to_owned(), percent);
    }
    object.set("spec", new_spec);
    let others: Vec<Value> = spec
        .list_at("metrics")
        .iter()
        .filter(|m| !is_cpu_utilization(m))
        .map(|m| metric_to_v1(m, SPECS))
        .collect();
    if !others.is_empty() {
        annotate(&mut object, METRICS, &Value::from(others));
    }
    let current: Vec<Value> = status
        .list_at("currentMetrics")
        .iter()
        .map(|m| metric_to_v1(m, STATUS))
        .collect();
    if !current.is_empty() {
        annotate(&mut object, STATUSES, &Value::from(current));
    }
    if !spec.at("behavior").is_null() {
        annotate(&mut object, BEHAVIOR, spec.at("behavior"));
    }
    if !status.list_at("conditions").is_empty() {
        annotate(&mut object, CONDITIONS, status.at("conditions"));
    }
    let mut new_status = keep(&status, STATUS_FIELDS);
    for metric in status.list_at("currentMetrics") {
        let use_of_cpu = metric.at("resource.current.averageUtilization");
        if metric.str_at("resource.name") == "cpu" && !use_of_cpu.is_null() {
            new_status.insert("currentCPUUtilizationPercentage".to_owned(), use_of_cpu.clone());
        }
    }
    if !status.is_null() {
        object.set("status", new_status);
    }
    object
}

/// The v2 shape of a v1 object.
pub(super) fn to_v2(mut object: Value) -> Value {
    let spec = object.take_at("spec").unwrap_or_default();
    let status = object.take_at("status").unwrap_or_default();
    object.set("apiVersion", "autoscaling/v2");
    let mut new_spec = keep(&spec, SPEC_FIELDS);
    let mut metrics: Vec<Value> = annotated(&object, METRICS)
        .as_ref()
        .and_then(Value::as_array)
        .map(|others| others.iter().map(|m| metric_to_v2(m, SPECS)).collect())
        .unwrap_or_default();
    if let Some(percent) = spec.int_at("targetCPUUtilizationPercentage") {
        metrics.push(super::cpu_metric(percent));
    }
    if metrics.is_empty() {
        metrics.push(super::cpu_metric(super::DEFAULT_UTILIZATION));
    }
    new_spec.insert("metrics".to_owned(), Value::from(metrics));
    if let Some(behavior) =
        annotated(&object, BEHAVIOR).filter(|b| b.as_object().is_some_and(|b| !b.is_empty()))
    {
        new_spec.insert("behavior".to_owned(), behavior);
    }
    object.set("spec", new_spec);
    let mut new_status = keep(&status, STATUS_FIELDS);
    if let Some(Value::Array(current)) = annotated(&object, STATUSES) {
        let current: Vec<Value> = current.iter().map(|m| metric_to_v2(m, STATUS)).collect();
        new_status.insert("currentMetrics".to_owned(), Value::from(current));
    } else if let Some(percent) = status.int_at("currentCPUUtilizationPercentage") {
        let metric = json!({"type": "Resource", "resource": {"name": "cpu", "current": {"averageUtilization": percent}}});
        new_status.insert("currentMetrics".to_owned(), json!([metric]));
    }
    if let Some(conditions @ Value::Array(_)) = annotated(&object, CONDITIONS) {
        new_status.insert("conditions".to_owned(), conditions);
    }
    if !status.is_null() || !new_status.is_empty() {
        object.set("status", new_status);
    }
    drop_round_trip(&mut object);
    object
}

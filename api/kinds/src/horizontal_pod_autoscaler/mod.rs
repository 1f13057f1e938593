//! HorizontalPodAutoscaler, in `autoscaling/v2`, which is stored, and `autoscaling/v1`.

mod convert;

use crate::fill::{Fields, absent, empty, inside, spec};
use crate::print::{self, AGE, NAME, NONE, UNSET};
use rutter_api::object::ObjectExt;
use rutter_api::strategy::Column;
use rutter_api::{Context, Strategy, Value};
use serde_json::json;

/// Metrics that a row shows.
const SHOWN: usize = 2;
/// The processor use to aim at when nothing else is said.
const DEFAULT_UTILIZATION: i64 = 80;

const COLUMNS: &[Column] = &[
    NAME,
    print::text("Reference", "What it scales."),
    print::text("Targets", "Metrics: current and wanted."),
    print::text("MinPods", "The least number of pods."),
    print::text("MaxPods", "The largest number of pods."),
    print::text("Replicas", "The current number of pods."),
    AGE,
];

/// HorizontalPodAutoscaler of `autoscaling/v2`.
pub(crate) struct HorizontalPodAutoscaler;

/// HorizontalPodAutoscaler of `autoscaling/v1`.
pub(crate) struct HorizontalPodAutoscalerV1;

impl Strategy for HorizontalPodAutoscaler {
    fn default_object(&self, object: &mut Value) {
        let Some(spec) = spec(object) else { return };
        absent(spec, "minReplicas", 1);
        if empty(spec, "metrics") {
            spec.insert("metrics".to_owned(), json!([cpu_metric(DEFAULT_UTILIZATION)]));
        }
        if let Some(behavior) = inside(spec, "behavior") {
            default_behavior(behavior);
        }
    }

    fn columns(&self) -> &'static [Column] {
        COLUMNS
    }

    fn row(&self, object: &Value, cx: &Context<'_>) -> Vec<Value> {
        row(object, cx)
    }

    fn has_generation(&self) -> bool {
        false
    }
}

impl Strategy for HorizontalPodAutoscalerV1 {
    fn default_object(&self, object: &mut Value) {
        if let Some(spec) = spec(object) {
            absent(spec, "minReplicas", 1);
        }
    }

    fn columns(&self) -> &'static [Column] {
        COLUMNS
    }

    fn row(&self, object: &Value, cx: &Context<'_>) -> Vec<Value> {
        row(&convert::to_v2(object.clone()), cx)
    }

    fn has_generation(&self) -> bool {
        false
    }

    fn to_served(&self, object: Value) -> Value {
        convert::to_v1(object)
    }

    fn to_stored(&self, object: Value) -> Value {
        convert::to_v2(object)
    }

    fn served_is_stored(&self) -> bool {
        false
    }
}

fn cpu_metric(utilization: i64) -> Value {
    json!({
        "type": "Resource",
        "resource": {"name": "cpu", "target": {"type": "Utilization", "averageUtilization": utilization}},
    })
}

fn default_behavior(behavior: &mut Fields) {
    let percent = json!({"type": "Percent", "value": 100, "periodSeconds": 15});
    let pods = json!({"type": "Pods", "value": 4, "periodSeconds": 15});
    for (field, policies, window) in [
        ("scaleUp", json!([pods, percent.clone()]), Some(0)),
        ("scaleDown", json!([percent]), None),
    ] {
        let Some(rules) = crate::fill::made(behavior, field) else {
            continue;
        };
        absent(rules, "selectPolicy", "Max");
        absent(rules, "policies", policies);
        if let Some(window) = window {
            absent(rules, "stabilizationWindowSeconds", window);
        }
    }
}

fn row(object: &Value, cx: &Context<'_>) -> Vec<Value> {
    let target = object.at("spec.scaleTargetRef");
    let least = match object.int_at("spec.minReplicas") {
        Some(least) => least.to_string(),
        None => UNSET.to_owned(),
    };
    vec![
        print::name(object),
        Value::from(format!("{}/{}", target.str_at("kind"), target.str_at("name"))),
        Value::from(metrics(object)),
        Value::from(least),
        print::count(object, "spec.maxReplicas"),
        print::count(object, "status.currentReplicas"),
        print::age(object, cx),
    ]
}

fn metrics(object: &Value) -> String {
    let specs = object.list_at("spec.metrics");
    let statuses = object.list_at("status.currentMetrics");
    if specs.is_empty() {
        return NONE.to_owned();
    }
    let cells: Vec<String> = specs
        .iter()
        .enumerate()
        .map(|(i, spec)| metric(spec, statuses.get(i).unwrap_or(&Value::Null)))
        .collect();
    match cells.get(..SHOWN) {
        Some(head) if cells.len() > SHOWN => format!("{} + {} more...", head.join(", "), cells.len() - SHOWN),
        _ => cells.join(", "),
    }
}

fn metric(spec: &Value, status: &Value) -> String {
    let (field, prefix) = match spec.str_at("type") {
        "External" => ("external", String::new()),
        "Pods" => ("pods", String::new()),
        "Object" => ("object", String::new()),
        "Resource" => ("resource", format!("{}: ", spec.str_at("resource.name"))),
        "ContainerResource" => (
            "containerResource",
            format!("{}: ", spec.str_at("containerResource.name")),
        ),
        _ => return "<unknown type>".to_owned(),
    };
    let target = spec.at(field).at("target");
    let current = status.at(field).at("current");
    let amount = |value: &Value, other: &str| match value {
        Value::Null => other.to_owned(),
        value => print::int_or_text(value),
    };
    let average = target.at("averageValue");
    if !average.is_null() || field == "pods" {
        let suffix = if matches!(field, "external" | "object") {
            " (avg)"
        } else {
            ""
        };
        let current = amount(current.at("averageValue"), "<unknown>");
        return format!("{prefix}{current}/{}{suffix}", amount(average, "0"));
    }
    if prefix.is_empty() {
        return format!(
            "{}/{}",
            amount(current.at("value"), "<unknown>"),
            amount(target.at("value"), "0")
        );
    }
    let percent = |value: &Value, other: &str| match value.as_i64() {
        Some(percent) => format!("{percent}%"),
        None => other.to_owned(),
    };
    let current = percent(current.at("averageUtilization"), "<unknown>");
    format!(
        "{prefix}{current}/{}",
        percent(target.at("averageUtilization"), "<auto>")
    )
}

#[cfg(test)]
mod tests;

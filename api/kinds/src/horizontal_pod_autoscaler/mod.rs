//! HorizontalPodAutoscaler, in `autoscaling/v2`, which is stored, and `autoscaling/v1`.

mod convert;

use crate::amount::quantity;
use crate::check::enumerated;
use crate::fill::{Fields, absent, empty, inside, spec};
use crate::print::{self, AGE, NAME, NONE, UNSET};
use rutter_api::Quantity;
use rutter_api::object::ObjectExt;
use rutter_api::strategy::Column;
use rutter_api::validation::{At, path_segment};
use rutter_api::{Context, ErrorList, Strategy, Value};
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

    fn validate_create(&self, object: &Value, _cx: &Context<'_>) -> ErrorList {
        validate(object)
    }

    fn validate_update(&self, object: &Value, old: &Value, cx: &Context<'_>) -> ErrorList {
        let _ = old;
        if cx.subresource == "status" {
            validate_status(object)
        } else {
            validate(object)
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

    fn validate_create(&self, object: &Value, _cx: &Context<'_>) -> ErrorList {
        validate(&convert::to_v2(object.clone()))
    }

    fn validate_update(&self, object: &Value, old: &Value, cx: &Context<'_>) -> ErrorList {
        let _ = old;
        if cx.subresource == "status" {
            validate_status(object)
        } else {
            validate(&convert::to_v2(object.clone()))
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

fn validate(object: &Value) -> ErrorList {
    let mut errors = ErrorList::new();
    let root = At::root(object);
    let spec = root.child("spec");
    let (least, most) = (spec.child("minReplicas"), spec.child("maxReplicas"));
    if least.int().is_some_and(|n| n < 1) {
        errors.push(least.invalid("must be greater than or equal to 1"));
    }
    match most.int().unwrap_or_default() {
        0 => errors.push(most.required("must be set and greater than 0")),
        n if n < 0 => errors.push(most.invalid("must be greater than or equal to 1")),
        _ => {}
    }
    if let (Some(least), Some(n)) = (least.int(), most.int())
        && n < least
    {
        errors.push(most.invalid("must be greater than or equal to `minReplicas`"));
    }
    let target = spec.child("scaleTargetRef");
    reference(&target, &mut errors);
    let version = target.child("apiVersion");
    let groupless = !version.text().contains('/');
    let old_kind = version.text() == "v1" && target.child("kind").text() == "ReplicationController";
    if groupless && !old_kind {
        errors.push(version.invalid_as(version.text(), "apiVersion must specify API group"));
    }
    for metric in spec.child("metrics").items() {
        validate_metric(&metric, &mut errors);
    }
    for rules in ["scaleUp", "scaleDown"] {
        let behavior = spec.child("behavior");
        scaling_rules(&behavior.child(rules), &mut errors);
    }
    errors
}

fn reference(at: &At<'_, '_>, errors: &mut ErrorList) {
    for field in ["kind", "name"] {
        let part = at.child(field);
        if part.is_empty() {
            errors.push(part.required(""));
        } else {
            part.all(errors, path_segment(part.text(), false));
        }
    }
}

const METRIC_TYPES: &[&str] = &["ContainerResource", "External", "Object", "Pods", "Resource"];

fn validate_metric(at: &At<'_, '_>, errors: &mut ErrorList) {
    let kind = at.child("type");
    if kind.is_empty() {
        errors.push(kind.required("must specify a metric source type"));
    }
    if !METRIC_TYPES.contains(&kind.text()) {
        errors.push(kind.not_supported(METRIC_TYPES));
    }
    let fields = ["object", "external", "pods", "resource", "containerResource"];
    let own = match kind.text() {
        "Object" => "object",
        "External" => "external",
        "Pods" => "pods",
        "Resource" => "resource",
        "ContainerResource" => "containerResource",
        _ => return,
    };
    let present = fields.iter().filter(|f| at.child(f).is_set()).count();
    let mut first = true;
    for field in fields {
        let source = at.child(field);
        if source.is_set() && std::mem::take(&mut first) {
            metric_source(field, &source, errors);
        }
    }
    if at.child(own).is_null() {
        errors.push(
            at.child(own)
                .required("must populate information for the given metric source"),
        );
    }
    if present != 1 {
        for field in fields.iter().filter(|f| **f != own && at.child(f).is_set()) {
            errors.push(
                at.child(field)
                    .forbidden("must populate the given metric source only"),
            );
        }
    }
}

fn metric_source(kind: &str, at: &At<'_, '_>, errors: &mut ErrorList) {
    let target = at.child("target");
    let (value, average, utilization) = (
        target.child("value"),
        target.child("averageValue"),
        target.child("averageUtilization"),
    );
    match kind {
        "object" => {
            reference(&at.child("describedObject"), errors);
            identifier(&at.child("metric"), errors);
            metric_target(&target, errors);
            if value.is_null() && average.is_null() {
                errors.push(average.required("must set either a target value or averageValue"));
            }
        }
        "external" => {
            identifier(&at.child("metric"), errors);
            metric_target(&target, errors);
            if value.is_null() && average.is_null() {
                errors
                    .push(average.required("must set either a target value for metric or a per-pod target"));
            }
            if value.is_set() && average.is_set() {
                let detail = "may not set both a target value for metric and a per-pod target";
                errors.push(value.forbidden(detail));
            }
        }
        "pods" => {
            identifier(&at.child("metric"), errors);
            metric_target(&target, errors);
            if average.is_null() {
                errors.push(average.required("must specify a positive target averageValue"));
            }
        }
        _ => {
            if at.child("name").is_empty() {
                errors.push(at.child("name").required("must specify a resource name"));
            }
            if kind == "containerResource" && at.child("container").is_empty() {
                errors.push(at.child("container").required("must specify a container"));
            }
            metric_target(&target, errors);
            if utilization.is_null() && average.is_null() {
                errors
                    .push(utilization.required("must set either a target raw value or a target utilization"));
            }
            if utilization.is_set() && average.is_set() {
                let detail = "may not set both a target raw value and a target utilization";
                errors.push(average.forbidden(detail));
            }
        }
    }
}

fn identifier(at: &At<'_, '_>, errors: &mut ErrorList) {
    let name = at.child("name");
    if name.is_empty() {
        errors.push(name.required("must specify a metric name"));
    } else {
        name.all(errors, path_segment(name.text(), false));
    }
}

fn metric_target(at: &At<'_, '_>, errors: &mut ErrorList) {
    let kind = at.child("type");
    if kind.is_empty() {
        errors.push(kind.required("must specify a metric target type"));
    }
    if !matches!(kind.text(), "Utilization" | "Value" | "AverageValue") {
        errors.push(kind.invalid_as(kind.text(), "must be either Utilization, Value, or AverageValue"));
    }
    for field in ["value", "averageValue"] {
        let amount = at.child(field);
        if quantity(amount.value).is_some_and(|q| q <= Quantity::ZERO) {
            errors.push(amount.invalid("must be positive"));
        }
    }
    let utilization = at.child("averageUtilization");
    if utilization.int().is_some_and(|n| n < 1) {
        errors.push(utilization.invalid("must be greater than 0"));
    }
}

fn scaling_rules(at: &At<'_, '_>, errors: &mut ErrorList) {
    if at.is_null() {
        return;
    }
    let window = at.child("stabilizationWindowSeconds");
    match window.int() {
        Some(n) if n < 0 => errors.push(window.invalid("must be greater than or equal to zero")),
        Some(n) if n > 3600 => errors.push(window.invalid("must be less than or equal to 3600")),
        _ => {}
    }
    if at.child("selectPolicy").is_set() {
        enumerated(&at.child("selectPolicy"), &["Disabled", "Max", "Min"], errors);
    }
    let policies = at.child("policies");
    if policies.is_empty() {
        errors.push(policies.required("must specify at least one Policy"));
    }
    for policy in policies.items() {
        enumerated(&policy.child("type"), &["Percent", "Pods"], errors);
        for field in ["value", "periodSeconds"] {
            let number = policy.child(field);
            let n = number.int().unwrap_or_default();
            if n <= 0 {
                errors.push(number.invalid_as(n, "must be greater than zero"));
            }
            if field == "periodSeconds" && n > 1800 {
                errors.push(number.invalid("must be less than or equal to 1800"));
            }
        }
    }
}

fn validate_status(object: &Value) -> ErrorList {
    let mut errors = ErrorList::new();
    let root = At::root(object);
    let status = root.child("status");
    for field in ["currentReplicas", "desiredReplicas"] {
        crate::check::not_negative(&status.child(field), &mut errors);
    }
    errors
}

#[cfg(test)]
mod tests;

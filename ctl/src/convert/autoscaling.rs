//! HorizontalPodAutoscalers: metrics of v2beta1, the one percentage of v1.

use super::fields::{Edit, get, items_mut, put, rename, take};
use serde_json::{Value, json};

pub(super) fn from_beta(edit: &mut Edit) {
    target(edit);
    if edit.from == "autoscaling/v2beta1" {
        items_mut(&mut edit.object, &["spec", "metrics"]).for_each(metric);
    }
    edit.drop(&["status"], "the server says it");
}

pub(super) fn from_v1(edit: &mut Edit) {
    target(edit);
    let percent = take(&mut edit.object, &["spec", "targetCPUUtilizationPercentage"]);
    if let Some(percent) = percent.filter(|p| !p.is_null()) {
        put(
            &mut edit.object,
            &["spec", "metrics"],
            json!([{"type": "Resource", "resource": {"name": "cpu",
                "target": {"type": "Utilization", "averageUtilization": percent}}}]),
        );
    }
    edit.drop(&["status"], "the server says it");
}

/// What is scaled may be of an old version, too.
fn target(edit: &mut Edit) {
    let reference = get(&edit.object, &["spec", "scaleTargetRef"]);
    let text = |key: &str| reference[key].as_str().unwrap_or("").to_owned();
    let (version, kind) = (text("apiVersion"), text("kind"));
    if let Some(new) = super::replacement(&version, &kind) {
        put(
            &mut edit.object,
            &["spec", "scaleTargetRef", "apiVersion"],
            json!(new),
        );
        edit.note(
            "spec.scaleTargetRef.apiVersion",
            format!("changed from {version} to {new}"),
        );
    }
}

fn metric(metric: &mut Value) {
    for source in ["resource", "containerResource"] {
        if let Some(inner) = metric.get_mut(source) {
            aim(
                inner,
                &[
                    ("targetAverageUtilization", "Utilization", "averageUtilization"),
                    ("targetAverageValue", "AverageValue", "averageValue"),
                ],
            );
        }
    }
    if let Some(pods) = metric.get_mut("pods") {
        identify(pods, "selector");
        aim(pods, &[("targetAverageValue", "AverageValue", "averageValue")]);
    }
    if let Some(object) = metric.get_mut("object") {
        rename(object, "target", "describedObject");
        let described = &object["describedObject"];
        let text = |key: &str| described[key].as_str().unwrap_or("").to_owned();
        if let Some(new) = super::replacement(&text("apiVersion"), &text("kind")) {
            object["describedObject"]["apiVersion"] = json!(new);
        }
        identify(object, "selector");
        // The average comes first: beside one the plain value was ignored.
        aim(
            object,
            &[
                ("averageValue", "AverageValue", "averageValue"),
                ("targetValue", "Value", "value"),
            ],
        );
    }
    if let Some(external) = metric.get_mut("external") {
        identify(external, "metricSelector");
        aim(
            external,
            &[
                ("targetAverageValue", "AverageValue", "averageValue"),
                ("targetValue", "Value", "value"),
            ],
        );
    }
}

/// Name and selector of a metric moved into a map of their own.
fn identify(source: &mut Value, selector: &str) {
    if let Some(name) = take(source, &["metricName"]) {
        put(source, &["metric", "name"], name);
    }
    if let Some(selector) = take(source, &[selector]) {
        put(source, &["metric", "selector"], selector);
    }
}

/// The first of these old fields that is set becomes the target.
fn aim(source: &mut Value, fields: &[(&str, &str, &str)]) {
    let mut made = None;
    for (old, kind, new) in fields {
        let value = take(source, &[old]);
        if let Some(value) = value.filter(|v| !v.is_null())
            && made.is_none()
        {
            made = Some(json!({"type": kind, *new: value}));
        }
    }
    if let Some(target) = made {
        put(source, &["target"], target);
    }
}

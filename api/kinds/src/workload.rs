//! Rules that the kinds with a template of pods share.

use crate::check::not_negative;
use crate::podcheck::{self, Leniency};
use rutter_api::object::ObjectExt;
use rutter_api::validation::{At, label_selector};
use rutter_api::{ErrorList, LabelSelector, Value};

/// A label selector that must select something.
pub(crate) fn selector(spec: &At<'_, '_>, kind: &str, errors: &mut ErrorList) {
    let at = spec.child("selector");
    if at.is_null() {
        errors.push(at.required(""));
        return;
    }
    label_selector(&at, false, errors);
    if at.child("matchLabels").is_empty() && at.child("matchExpressions").is_empty() {
        errors.push(at.invalid(format!("empty selector is invalid for {kind}")));
    }
}

/// A template of pods that the selector selects and that always restart.
pub(crate) fn template(spec: &At<'_, '_>, lenient: Leniency, kind: &str, errors: &mut ErrorList) {
    selected(spec, errors);
    let template = spec.child("template");
    podcheck::template(&template, lenient, errors);
    always_restarts(&template, kind, errors);
}

/// The template's labels match the selector.
pub(crate) fn selected(spec: &At<'_, '_>, errors: &mut ErrorList) {
    let at = spec.child("selector");
    let template = spec.child("template");
    let labels = template.child("metadata").value.at("labels");
    let matches = match LabelSelector::from_object(at.value) {
        _ if at.is_null() => false,
        Ok(selector) => selector.matches(|key| labels.get(key).and_then(Value::as_str)),
        Err(_) => {
            errors.push(at.invalid("invalid label selector"));
            return;
        }
    };
    if !matches {
        let metadata = template.child("metadata");
        errors.push(
            metadata
                .field("labels", labels)
                .invalid("`selector` does not match template `labels`"),
        );
    }
}

/// Pods of controllers restart for ever.
pub(crate) fn always_restarts(template: &At<'_, '_>, kind: &str, errors: &mut ErrorList) {
    let spec = template.child("spec");
    let policy = spec.child("restartPolicy");
    if policy.text() != "Always" {
        errors.push(policy.not_supported(&["Always"]));
    }
    if spec.child("activeDeadlineSeconds").is_set() {
        let detail = format!("activeDeadlineSeconds in {kind} is not Supported");
        errors.push(spec.child("activeDeadlineSeconds").forbidden(detail));
    }
}

/// A number of pods, or a part of all.
pub(crate) fn int_or_percent(at: &At<'_, '_>, errors: &mut ErrorList) {
    if at.value.is_string() && percent(at.value).is_none() {
        errors.push(at.invalid("a valid percent string must be a numeric string followed by an ending '%' (e.g. '1%',  or '93%', regex used for validation is '[0-9]+%')"));
    } else {
        not_negative(at, errors);
    }
}

/// The number of a percentage.
pub(crate) fn percent(value: &Value) -> Option<i64> {
    let digits = value.as_str()?.strip_suffix('%')?;
    if digits.is_empty() || !digits.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    Some(digits.parse().unwrap_or(i64::MAX))
}

/// The number, of pods or of percent.
pub(crate) fn number(value: &Value) -> i64 {
    percent(value).or_else(|| value.as_i64()).unwrap_or_default()
}

/// A percentage of at most a hundred.
pub(crate) fn at_most_all(at: &At<'_, '_>, errors: &mut ErrorList) {
    if percent(at.value).is_some_and(|p| p > 100) {
        errors.push(at.invalid("must not be greater than 100%"));
    }
}

/// Counts in a status: none below zero, none above `replicas`, no more available than ready.
pub(crate) fn status_counts(
    status: &At<'_, '_>,
    counts: &[&str],
    limited: &[&str],
    of: [&str; 2],
    errors: &mut ErrorList,
) {
    for field in counts {
        not_negative(&status.child(field), errors);
    }
    let count = |field: &str| status.value.int_at(field).unwrap_or_default();
    for field in limited {
        if count(field) > count("replicas") {
            errors.push(status.child(field).invalid_as(count(field), of[0]));
        }
    }
    if count("availableReplicas") > count("readyReplicas") {
        errors.push(
            status
                .child("availableReplicas")
                .invalid_as(count("availableReplicas"), of[1]),
        );
    }
}

/// `collisionCount` only grows.
pub(crate) fn collisions(status: &At<'_, '_>, old: &Value, errors: &mut ErrorList) {
    let at = status.child("collisionCount");
    let before = old.int_at("status.collisionCount");
    if before.is_some_and(|before| at.int().unwrap_or_default() < before) {
        errors.push(at.invalid_as(at.int().unwrap_or_default(), "cannot be decremented"));
    }
}

/// Texts of [`status_counts`].
pub(crate) const GREATER: [&str; 2] = [
    "cannot be greater than status.replicas",
    "cannot be greater than readyReplicas",
];

//! Checks that many kinds make of one field.

use rutter_api::ErrorList;
use rutter_api::validation::At;

const NEGATIVE: &str = "must be greater than or equal to 0";

/// One of the values, when there is one at all.
pub(crate) fn enumerated(at: &At<'_, '_>, supported: &[&str], errors: &mut ErrorList) {
    if !supported.contains(&at.text()) {
        errors.push(at.not_supported(supported));
    }
}

/// One of the values; none is a missing one.
pub(crate) fn required_enum(at: &At<'_, '_>, supported: &[&str], errors: &mut ErrorList) {
    if at.is_empty() {
        errors.push(at.required(""));
    } else {
        enumerated(at, supported, errors);
    }
}

/// A text that is there.
pub(crate) fn required_text(at: &At<'_, '_>, errors: &mut ErrorList) {
    if at.is_empty() {
        errors.push(at.required(""));
    }
}

/// A name by a rule.
pub(crate) fn name_of(at: &At<'_, '_>, rule: fn(&str) -> Vec<String>, errors: &mut ErrorList) {
    at.all(errors, rule(at.text()));
}

/// A number that isn't below zero.
pub(crate) fn not_negative(at: &At<'_, '_>, errors: &mut ErrorList) {
    if at.int().is_some_and(|n| n < 0) {
        errors.push(at.invalid(NEGATIVE));
    }
}

/// A number above zero.
pub(crate) fn positive(at: &At<'_, '_>, errors: &mut ErrorList) {
    let number = at.int().unwrap_or_default();
    if number <= 0 {
        errors.push(at.invalid_as(number, "must be greater than zero"));
    }
}

/// A number between two others.
pub(crate) fn in_range(at: &At<'_, '_>, least: i64, most: i64, errors: &mut ErrorList) {
    if at.int().is_some_and(|n| !(least..=most).contains(&n)) {
        errors.push(at.invalid(format!("must be between {least} and {most}, inclusive")));
    }
}

/// A field that stays as it is.
pub(crate) fn immutable(at: &At<'_, '_>, old: &rutter_api::Value, errors: &mut ErrorList) {
    rutter_api::validation::immutable(at, old, errors);
}

/// A text with the lines in which two values differ, old before new, below it.
pub(crate) fn with_diff(text: &str, old: &rutter_api::Value, new: &rutter_api::Value) -> String {
    let mut lines = Vec::new();
    differences("", old, new, &mut lines);
    format!("{text}\n{}", lines.join("\n"))
}

fn differences(path: &str, old: &rutter_api::Value, new: &rutter_api::Value, lines: &mut Vec<String>) {
    use rutter_api::Value;
    if old == new {
        return;
    }
    match (old, new) {
        (Value::Object(a), Value::Object(b)) => {
            let keys: std::collections::BTreeSet<&String> = a.keys().chain(b.keys()).collect();
            for key in keys {
                let get = |map: &rutter_api::Map<String, Value>| map.get(key).cloned().unwrap_or_default();
                differences(&format!("{path}.{key}"), &get(a), &get(b), lines);
            }
        }
        (Value::Array(a), Value::Array(b)) if a.len() == b.len() => {
            for (i, (a, b)) in a.iter().zip(b).enumerate() {
                differences(&format!("{path}[{i}]"), a, b, lines);
            }
        }
        _ => {
            lines.push(format!("- {}: {old}", path.trim_start_matches('.')));
            lines.push(format!("+ {}: {new}", path.trim_start_matches('.')));
        }
    }
}

/// Something is invalid here, without showing what.
pub(crate) fn plain(at: &At<'_, '_>, detail: impl Into<String>) -> rutter_api::FieldError {
    rutter_api::FieldError {
        value: None,
        ..at.invalid_as(rutter_api::Value::Null, detail)
    }
}

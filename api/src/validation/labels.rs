//! Labels and label selectors.

use super::At;
use super::names::{label_value, qualified_name};
use crate::field::{ErrorList, FieldError};
use crate::object::ObjectExt;
use serde_json::Value;

/// What is wrong with labels.
pub fn labels(at: &At<'_, '_>, errors: &mut ErrorList) {
    for (key, value) in at.entries() {
        errors.extend(
            qualified_name(key)
                .into_iter()
                .map(|e| FieldError::invalid(&at.path(), key, e)),
        );
        let value = value.as_str().unwrap_or_default();
        errors.extend(
            label_value(value)
                .into_iter()
                .map(|e| FieldError::invalid(&at.path(), value, e)),
        );
    }
}

/// Whether a value in a selector's expressions is no label value, as old objects may have.
pub fn selector_has_invalid_value(selector: &Value) -> bool {
    let values = selector
        .list_at("matchExpressions")
        .iter()
        .flat_map(|e| e.list_at("values"));
    values
        .filter_map(Value::as_str)
        .any(|value| !label_value(value).is_empty())
}

/// What is wrong with a label selector. `lenient` lets values stand that are no label values.
pub fn label_selector(at: &At<'_, '_>, lenient: bool, errors: &mut ErrorList) {
    labels(&at.child("matchLabels"), errors);
    for requirement in at.child("matchExpressions").items() {
        let values = requirement.child("values");
        match requirement.child("operator").text() {
            "In" | "NotIn" => {
                if values.is_empty() {
                    errors.push(values.required("must be specified when `operator` is 'In' or 'NotIn'"));
                }
            }
            "Exists" | "DoesNotExist" => {
                if !values.is_empty() {
                    let detail = "may not be specified when `operator` is 'Exists' or 'DoesNotExist'";
                    errors.push(values.forbidden(detail));
                }
            }
            other => {
                let operator = requirement.child("operator");
                errors.push(operator.invalid_as(other, "not a valid selector operator"));
            }
        }
        let key = requirement.child("key");
        errors.extend(
            qualified_name(key.text())
                .into_iter()
                .map(|e| key.invalid_as(key.text(), e)),
        );
        if !lenient {
            for value in values.items() {
                value.all(errors, label_value(value.text()));
            }
        }
    }
}

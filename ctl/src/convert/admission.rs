//! Webhook configurations: defaults became stricter, and side effects have to be declared.

use super::fields::{Edit, put, take};
use serde_json::{Value, json};

/// Fields whose defaults changed, with the old ones.
const DEFAULTS: &[(&str, &str)] = &[("failurePolicy", "Ignore"), ("matchPolicy", "Exact")];

pub(super) fn webhooks(edit: &mut Edit) {
    let Some(Value::Array(mut webhooks)) = take(&mut edit.object, &["webhooks"]) else {
        return;
    };
    for webhook in &mut webhooks {
        let place = format!("webhooks[{}]", webhook["name"].as_str().unwrap_or(""));
        let from = edit.from.clone();
        let mut default = |key: &str, value: Value| {
            if webhook[key].is_null() {
                edit.note(
                    format!("{place}.{key}"),
                    format!("written as {value}, which was the default of {from}"),
                );
                put(webhook, &[key], value);
            }
        };
        for (key, value) in DEFAULTS {
            default(key, json!(value));
        }
        default("timeoutSeconds", json!(30));
        default("admissionReviewVersions", json!(["v1beta1"]));
        let declared = webhook["sideEffects"].as_str();
        if !matches!(declared, Some("None" | "NoneOnDryRun")) {
            edit.note(
                format!("{place}.sideEffects"),
                format!(
                    "was {}, which isn't allowed any more; written as None: check that the webhook changes nothing else, or write NoneOnDryRun",
                    declared.unwrap_or("Unknown")
                ),
            );
            put(webhook, &["sideEffects"], json!("None"));
        }
    }
    put(&mut edit.object, &["webhooks"], Value::Array(webhooks));
}

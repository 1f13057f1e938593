//! Definitions as `apiextensions.k8s.io/v1beta1` has them, which upstream's server still stores them in.
//!
//! What that version says once for all versions stands in each of them since. Nothing is repaired: what a definition allows stays the
//! same.

use rutter_api::Value;
use rutter_api::object::ObjectExt;
use serde_json::{Map, json};

/// What is said at the top for all versions, with its name in each of them.
const SHARED: &[(&str, &str)] = &[
    ("validation", "schema"),
    ("subresources", "subresources"),
    ("additionalPrinterColumns", "additionalPrinterColumns"),
    ("selectableFields", "selectableFields"),
];

/// A definition of `v1beta1` in the form of `v1`.
pub fn from_v1beta1(mut definition: Value) -> Value {
    definition.set("apiVersion", "apiextensions.k8s.io/v1");
    let Some(Value::Object(mut spec)) = definition.take_at("spec") else {
        return definition;
    };
    let first = spec.remove("version");
    let shared: Vec<(&str, Value)> = SHARED
        .iter()
        .filter_map(|(old, new)| Some((*new, spec.remove(*old)?)))
        .collect();
    let versions = spec.entry("versions").or_insert_with(|| json!([]));
    if let (Value::Array(versions), Some(name)) = (versions, first)
        && versions.is_empty()
    {
        versions.push(json!({"name": name, "served": true, "storage": true}));
    }
    if let Some(Value::Array(versions)) = spec.get_mut("versions") {
        versions
            .iter_mut()
            .filter_map(Value::as_object_mut)
            .for_each(|version| complete(version, &shared));
    }
    // Fields that no schema knows were kept unless somebody said otherwise.
    spec.entry("preserveUnknownFields").or_insert(Value::Bool(true));
    if let Some(Value::Object(conversion)) = spec.get_mut("conversion") {
        webhook(conversion);
    }
    definition.set("spec", Value::Object(spec));
    definition
}

/// Gives a version what is said of all, and its columns their new field.
fn complete(version: &mut Map<String, Value>, shared: &[(&str, Value)]) {
    for (name, value) in shared {
        version.entry(*name).or_insert_with(|| value.clone());
    }
    let columns = version
        .get_mut("additionalPrinterColumns")
        .and_then(Value::as_array_mut);
    for column in columns.into_iter().flatten().filter_map(Value::as_object_mut) {
        if let Some(path) = column.remove("JSONPath") {
            column.insert("jsonPath".to_owned(), path);
        }
    }
}

/// How to reach the webhook stands in a part of its own.
fn webhook(conversion: &mut Map<String, Value>) {
    let config = conversion.remove("webhookClientConfig");
    let versions = conversion.remove("conversionReviewVersions");
    if conversion.get("strategy").and_then(Value::as_str) != Some("Webhook") {
        return;
    }
    let mut webhook = Map::new();
    webhook.extend(config.map(|config| ("clientConfig".to_owned(), config)));
    let versions = versions.unwrap_or_else(|| json!(["v1beta1"]));
    webhook.insert("conversionReviewVersions".to_owned(), versions);
    conversion.insert("webhook".to_owned(), Value::Object(webhook));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn definitions_of_v1beta1_say_the_same_in_v1() {
        let old = |spec: Value| json!({"apiVersion": "apiextensions.k8s.io/v1beta1", "kind": "CustomResourceDefinition", "spec": spec});
        let column = json!([{"name": "N", "type": "string", "JSONPath": ".spec.n"}]);
        let schema = json!({"openAPIV3Schema": {"type": "object"}});
        for (spec, want) in [
            (
                json!({"group": "g", "version": "v1", "validation": schema, "subresources": {"status": {}},
                    "additionalPrinterColumns": column, "versions": [{"name": "v1", "served": true, "storage": true}],
                    "conversion": {"strategy": "None"}, "preserveUnknownFields": false}),
                json!({"group": "g", "versions": [{"name": "v1", "served": true, "storage": true, "schema": schema,
                    "subresources": {"status": {}},
                    "additionalPrinterColumns": [{"name": "N", "type": "string", "jsonPath": ".spec.n"}]}],
                    "conversion": {"strategy": "None"}, "preserveUnknownFields": false}),
            ),
            (
                json!({"version": "v1", "versions": [{"name": "v1", "schema": schema}, {"name": "v2", "additionalPrinterColumns": column}],
                    "conversion": {"strategy": "Webhook", "webhookClientConfig": {"url": "u"}, "conversionReviewVersions": ["v1"]}}),
                json!({"versions": [{"name": "v1", "schema": schema},
                    {"name": "v2", "additionalPrinterColumns": [{"name": "N", "type": "string", "jsonPath": ".spec.n"}]}],
                    "conversion": {"strategy": "Webhook", "webhook": {"clientConfig": {"url": "u"}, "conversionReviewVersions": ["v1"]}},
                    "preserveUnknownFields": true}),
            ),
            (
                json!({"version": "v3"}),
                json!({"versions": [{"name": "v3", "served": true, "storage": true}], "preserveUnknownFields": true}),
            ),
        ] {
            let got = from_v1beta1(old(spec));
            assert_eq!(got["spec"], want);
            assert_eq!(got["apiVersion"], "apiextensions.k8s.io/v1");
        }
    }
}

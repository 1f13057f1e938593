//! CustomResourceDefinitions: what was said once for all versions is said for each, and schemas are structural.

use super::fields::{Edit, get, items_mut, put, rename, take};
use serde_json::{Map, Value, json};

pub(super) fn definition(edit: &mut Edit) {
    versions(edit);
    edit.keep_default(&["spec", "scope"], json!("Namespaced"));
    conversion(edit);
    edit.drop(&["status"], "the server says it");
}

fn versions(edit: &mut Edit) {
    let single = take(&mut edit.object, &["spec", "version"]);
    let has_list = get(&edit.object, &["spec", "versions"])
        .as_array()
        .is_some_and(|v| !v.is_empty());
    if !has_list {
        match single {
            Some(name) => put(
                &mut edit.object,
                &["spec", "versions"],
                json!([{"name": name, "served": true, "storage": true}]),
            ),
            None => edit.note("spec.versions", "is required, and nothing names a version"),
        }
    }
    let shared = |edit: &mut Edit, key: &str| take(&mut edit.object, &["spec", key]);
    let schema = shared(edit, "validation");
    let subresources = shared(edit, "subresources");
    let columns = shared(edit, "additionalPrinterColumns");
    let pruned = shared(edit, "preserveUnknownFields") == Some(json!(false));
    let mut versions = take(&mut edit.object, &["spec", "versions"]).unwrap_or(Value::Null);
    for version in items_mut(&mut versions, &[]) {
        let name = version["name"].as_str().unwrap_or("").to_owned();
        for (key, value) in [
            ("schema", &schema),
            ("subresources", &subresources),
            ("additionalPrinterColumns", &columns),
        ] {
            if let Some(value) = value
                && version[key].is_null()
            {
                put(version, &[key], value.clone());
            }
        }
        for column in items_mut(version, &["additionalPrinterColumns"]) {
            rename(column, "JSONPath", "jsonPath");
        }
        let place = format!("spec.versions[{name}].schema.openAPIV3Schema");
        if get(version, &["schema", "openAPIV3Schema"]).is_null() {
            put(
                version,
                &["schema", "openAPIV3Schema"],
                json!({"type": "object", "x-kubernetes-preserve-unknown-fields": true}),
            );
            edit.note(place, "there was no schema: this one lets everything pass");
            continue;
        }
        let root = &mut version["schema"]["openAPIV3Schema"];
        structural(edit, root, &place);
        if !pruned && root["x-kubernetes-preserve-unknown-fields"].is_null() {
            put(root, &["x-kubernetes-preserve-unknown-fields"], json!(true));
            edit.note(
                place,
                "x-kubernetes-preserve-unknown-fields keeps fields that the schema doesn't name, as before; take it away once the schema is complete",
            );
        }
    }
    if !versions.is_null() {
        put(&mut edit.object, &["spec", "versions"], versions);
    }
}

/// Gives a type to what implies one, and says where none is to be had.
fn structural(edit: &mut Edit, schema: &mut Value, place: &str) {
    let Some(map) = schema.as_object_mut() else { return };
    if map.get("type").is_none_or(Value::is_null) {
        let implied = if map.contains_key("properties") || map.contains_key("additionalProperties") {
            Some("object")
        } else if map.contains_key("items") {
            Some("array")
        } else {
            None
        };
        let flag = |key: &str| map.get(key) == Some(&json!(true));
        let free = flag("x-kubernetes-int-or-string") || flag("x-kubernetes-preserve-unknown-fields");
        match implied {
            Some(kind) => {
                map.insert("type".to_owned(), json!(kind));
            }
            None if map.get("format") == Some(&json!("int-or-string")) => {
                map.remove("format");
                map.insert("x-kubernetes-int-or-string".to_owned(), json!(true));
            }
            None if !free => {
                map.insert("x-kubernetes-preserve-unknown-fields".to_owned(), json!(true));
                edit.note(place, "names no type: any value passes");
            }
            None => {}
        }
    }
    inner(edit, map, place);
}

fn inner(edit: &mut Edit, map: &mut Map<String, Value>, place: &str) {
    if let Some(properties) = map.get_mut("properties").and_then(Value::as_object_mut) {
        for (name, property) in properties {
            structural(edit, property, &format!("{place}.properties[{name}]"));
        }
    }
    for key in ["items", "additionalProperties"] {
        if let Some(below) = map.get_mut(key) {
            structural(edit, below, &format!("{place}.{key}"));
        }
    }
}

fn conversion(edit: &mut Edit) {
    let Some(mut conversion) = take(&mut edit.object, &["spec", "conversion"]) else {
        return;
    };
    if conversion["strategy"] == "Webhook" {
        for (old, new) in [
            ("webhookClientConfig", "clientConfig"),
            ("conversionReviewVersions", "conversionReviewVersions"),
        ] {
            if let Some(value) = take(&mut conversion, &[old]) {
                put(&mut conversion, &["webhook", new], value);
            }
        }
        if get(&conversion, &["webhook", "conversionReviewVersions"]).is_null() {
            put(
                &mut conversion,
                &["webhook", "conversionReviewVersions"],
                json!(["v1beta1"]),
            );
        }
    }
    put(&mut edit.object, &["spec", "conversion"], conversion);
}

//! Whole objects inside of custom ones (`x-kubernetes-embedded-resource`): their kind and metadata must be valid.

use super::flag;
use super::structural::properties;
use crate::field::{ErrorList, FieldError, Path};
use crate::meta::GroupVersion;
use crate::object::ObjectExt;
use crate::schema::{FieldValidation, builtin, decode};
use crate::strategy::NameRule;
use crate::validation::{self, dns_label_1035};
use serde_json::{Map, Value};

const OBJECT_META: &str = "io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta";

/// What is wrong with the whole objects in a value.
pub(super) fn embedded(schema: &Value, value: &Value, path: &Path, errors: &mut ErrorList) {
    match value {
        Value::Object(map) => {
            if flag(schema, "x-kubernetes-embedded-resource") {
                whole(map, path, errors);
            }
            let additional = schema.get("additionalProperties").filter(|a| a.is_object());
            for (name, inner) in map {
                match properties(schema).find(|(known, _)| known == name) {
                    Some((_, schema)) => embedded(schema, inner, &path.child(name), errors),
                    None => {
                        if let Some(schema) = additional {
                            embedded(schema, inner, &path.key(name), errors);
                        }
                    }
                }
            }
        }
        Value::Array(items) => {
            if let Some(schema) = schema.get("items") {
                for (index, item) in items.iter().enumerate() {
                    embedded(schema, item, &path.index(index), errors);
                }
            }
        }
        _ => {}
    }
}

fn whole(map: &Map<String, Value>, path: &Path, errors: &mut ErrorList) {
    for name in ["apiVersion", "kind"] {
        let at = path.child(name);
        let Some(value) = map.get(name) else {
            errors.push(FieldError::required(&at, ""));
            continue;
        };
        let Some(text) = value.as_str() else {
            errors.push(FieldError::invalid(&at, value.clone(), "must be a string"));
            continue;
        };
        if text.is_empty() {
            errors.push(FieldError::invalid(&at, text, "must not be empty"));
        } else if name == "apiVersion" && GroupVersion::parse(text).is_none() {
            let detail = format!("unexpected GroupVersion string: {text}");
            errors.push(FieldError::invalid(&at, text, detail));
        } else if name == "kind" {
            let wrong = dns_label_1035(&text.to_lowercase());
            if !wrong.is_empty() {
                let detail = format!(
                    "may have mixed case, but should otherwise match: {}",
                    wrong.join(",")
                );
                errors.push(FieldError::invalid(&at, text, detail));
            }
        }
    }
    let Some(metadata) = map.get("metadata") else {
        return;
    };
    let at = path.child("metadata");
    match decode(builtin(), OBJECT_META, metadata.clone(), FieldValidation::Ignore) {
        Err(error) => errors.push(FieldError::invalid(&at, metadata.clone(), error.to_string())),
        Ok(decoded) => {
            let mut object = Value::Object(Map::new());
            object.set("metadata", decoded.value);
            if object.name().is_empty() {
                // A name isn't demanded here.
                object.set("metadata.name", "fakename");
            }
            let namespaced = !object.namespace().is_empty();
            let found = validation::create(&object, namespaced, NameRule::PathSegment);
            errors.extend(found.into_iter().map(|error| FieldError {
                field: if path.as_str().is_empty() {
                    error.field
                } else {
                    format!("{path}.{}", error.field)
                },
                ..error
            }));
        }
    }
}

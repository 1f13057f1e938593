//! Defaults that a structural schema declares.

use super::embedded::embedded;
use super::flag;
use super::structural::properties;
use crate::field::{ErrorList, FieldError, Path};
use crate::schema::{FieldValidation, decode};
use serde_json::{Value, json};

/// Fills in the defaults that a structural schema declares. A null where none is allowed gives way to a default, or
/// else is dropped.
pub fn apply_defaults(schema: &Value, object: &mut Value) {
    match object {
        Value::Object(map) => {
            let properties = schema.get("properties").and_then(Value::as_object);
            for (name, schema) in properties.into_iter().flatten() {
                let Some(default) = schema.get("default").filter(|d| !d.is_null()) else {
                    continue;
                };
                let absent = match map.get(name) {
                    None => true,
                    Some(value) => value.is_null() && !flag(schema, "nullable"),
                };
                if absent {
                    map.insert(name.clone(), default.clone());
                }
            }
            let others = schema.get("additionalProperties").filter(|s| s.is_object());
            // What is left of nulls where none is allowed counts as not said.
            map.retain(|name, value| {
                let schema = properties.and_then(|p| p.get(name)).or(others);
                !value.is_null() || schema.is_none_or(|schema| flag(schema, "nullable"))
            });
            for (name, value) in map.iter_mut() {
                if let Some(schema) = properties.and_then(|p| p.get(name)).or(others) {
                    apply_defaults(schema, value);
                }
            }
        }
        Value::Array(items) => {
            if let Some(schema) = schema.get("items") {
                for item in items.iter_mut() {
                    if item.is_null()
                        && !flag(schema, "nullable")
                        && let Some(default) = schema.get("default").filter(|d| !d.is_null())
                    {
                        *item = default.clone();
                    }
                    apply_defaults(schema, item);
                }
            }
        }
        _ => {}
    }
}

/// Whether any default has fields that its schema doesn't.
pub(super) fn has_unpruned(schema: &Value) -> bool {
    let mut errors = ErrorList::new();
    walk(schema, true, false, &Path::root(), &mut errors);
    errors.iter().any(|error| error.detail == UNKNOWN_FIELDS)
}

const UNKNOWN_FIELDS: &str = "must not have unknown fields";

/// What is wrong with the defaults in a schema: each must be valid by its own part of the schema, without unknown fields when
/// `pruned`.
pub(super) fn check(schema: &Value, pruned: bool, path: &Path) -> ErrorList {
    let mut errors = ErrorList::new();
    walk(schema, pruned, false, path, &mut errors);
    errors
}

fn walk(schema: &Value, pruned: bool, inside_metadata: bool, path: &Path, errors: &mut ErrorList) {
    if let Some(default) = schema.get("default").filter(|default| !default.is_null()) {
        let at = path.child("default");
        if pruned && !inside_metadata && !is_pruned(schema, default) {
            errors.push(FieldError::invalid(&at, default.clone(), UNKNOWN_FIELDS));
        }
        let before = errors.len();
        embedded(schema, default, &at, errors);
        if errors.len() == before {
            super::validate::check(schema, default, None, &at, errors);
        }
    }
    // Below additionalProperties there are no defaults.
    if let Some(items) = schema.get("items").filter(|items| items.is_object()) {
        walk(items, pruned, inside_metadata, &path.child("items"), errors);
    }
    let whole = flag(schema, "x-kubernetes-embedded-resource");
    for (name, property) in properties(schema) {
        let inside = match name {
            "metadata" | "apiVersion" | "kind" if whole => true,
            _ => inside_metadata && !whole,
        };
        walk(
            property,
            pruned,
            inside,
            &path.child("properties").key(name),
            errors,
        );
    }
}

/// Whether a value has no fields that the schema doesn't.
fn is_pruned(schema: &Value, value: &Value) -> bool {
    let around = json!({"type": "object", "properties": {"value": schema}});
    let types = super::types("", &around, false);
    let object = json!({"value": value});
    decode(&types, "", object, FieldValidation::Ignore)
        .is_ok_and(|decoded| decoded.value.get("value") == Some(value))
}

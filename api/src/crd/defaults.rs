//! Defaults that a structural schema declares.

use super::flag;
use serde_json::Value;

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

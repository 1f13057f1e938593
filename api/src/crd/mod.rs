//! Custom resources: from a structural schema to [`Types`](crate::schema::Types), its defaults, and what is right and
//! wrong with a value.
//!
//! A schema is the `openAPIV3Schema` of one version of a CustomResourceDefinition, as JSON. A custom object is decoded
//! with the types (which prunes it), then given its defaults, then validated. Rules in CEL are not evaluated here.

mod defaults;
mod definition;
mod embedded;
mod formats;
mod structural;
mod types;
mod validate;

pub use defaults::apply_defaults;
pub use definition::{SchemaRules, anywhere, check_schema, field_at, has_extensions};
pub use formats::is_format;
pub use structural::{structural, unsupported};
pub use types::types;
pub use validate::validate;

use crate::schema::{FieldValidation, Types, decode};
use serde_json::Value;

/// Takes out of a schema what only people read.
pub fn strip(schema: &mut Value) {
    if let Value::Object(map) = schema {
        for name in ["description", "title", "example", "externalDocs"] {
            map.remove(name);
        }
        for (name, value) in map.iter_mut() {
            match name.as_str() {
                "properties" => value
                    .as_object_mut()
                    .into_iter()
                    .flat_map(|properties| properties.values_mut())
                    .for_each(strip),
                "items" | "not" | "additionalProperties" => strip(value),
                "allOf" | "anyOf" | "oneOf" => value.as_array_mut().into_iter().flatten().for_each(strip),
                _ => {}
            }
        }
    }
}

/// Drops what a type doesn't know. An object that doesn't fit its metadata stays as it is.
pub fn prune(types: &Types, type_name: &str, object: Value) -> Value {
    match decode(types, type_name, object.clone(), FieldValidation::Ignore) {
        Ok(decoded) => decoded.value,
        Err(_) => object,
    }
}

/// A flag such as `x-kubernetes-preserve-unknown-fields`.
pub(crate) fn flag(schema: &Value, name: &str) -> bool {
    schema.get(name).and_then(Value::as_bool).unwrap_or_default()
}

fn text<'s>(schema: &'s Value, name: &str) -> &'s str {
    schema.get(name).and_then(Value::as_str).unwrap_or_default()
}

#[cfg(test)]
mod tests;

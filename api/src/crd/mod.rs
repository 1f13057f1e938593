//! Custom resources: from a structural schema to [`Types`](crate::schema::Types), its defaults, and what is right and
//! wrong with a value.
//!
//! A schema is the `openAPIV3Schema` of one version of a CustomResourceDefinition, as JSON. A custom object is decoded
//! with the types (which prunes it), then given its defaults, then validated. Rules in CEL are not evaluated here.

mod defaults;
mod formats;
mod types;
mod validate;

pub use defaults::apply_defaults;
pub use types::types;
pub use validate::validate;

use serde_json::Value;

/// A flag such as `x-kubernetes-preserve-unknown-fields`.
fn flag(schema: &Value, name: &str) -> bool {
    schema.get(name).and_then(Value::as_bool).unwrap_or_default()
}

fn text<'s>(schema: &'s Value, name: &str) -> &'s str {
    schema.get(name).and_then(Value::as_str).unwrap_or_default()
}

#[cfg(test)]
mod tests;

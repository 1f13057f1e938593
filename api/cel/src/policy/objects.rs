//! Objects that mutating policies make: `Object.spec{replicas: 3}` and `JSONPatch{op: 'add', ...}`.

use crate::env::Constructors;
use crate::error::{EvalError, Result};
use crate::types::Type;
use crate::value::Value;

pub(super) const OBJECT: &str = "Object";
pub(super) const PATCH: &str = "JSONPatch";

/// The types of objects by their path, without a schema: what fits is told when the change is applied.
#[derive(Debug)]
pub(super) struct Objects;

impl Constructors for Objects {
    fn has(&self, name: &str) -> bool {
        name == PATCH
            || name == OBJECT
            || name
                .strip_prefix(OBJECT)
                .is_some_and(|rest| rest.starts_with('.'))
    }

    fn field(&self, name: &str, field: &str) -> Option<Type> {
        if name != PATCH {
            return Some(Type::Dyn);
        }
        match field {
            "op" | "path" | "from" => Some(Type::String),
            "value" => Some(Type::Dyn),
            _ => None,
        }
    }
}

/// Whether every object in a value is of the type that its place says: `Object.spec` at `spec`.
pub(super) fn check_names(value: &Value<'_>, expected: &str) -> Result<()> {
    match value {
        Value::Object(name, fields) => {
            if **name != *expected {
                return Err(EvalError::new(format!(
                    "type mismatch: unexpected type name {name:?}, expected {expected:?}, which matches field name path from root Object type"
                )));
            }
            fields
                .iter()
                .try_for_each(|(field, value)| check_names(value, &format!("{expected}.{}", &**field)))
        }
        Value::List(list) => list.iter().try_for_each(|item| check_names(&item?, expected)),
        Value::Map(map) => map.keys().into_iter().try_for_each(|key| match map.find(&key)? {
            Some(value) => check_names(&value, expected),
            None => Ok(()),
        }),
        Value::Optional(Some(value)) => check_names(value, expected),
        _ => Ok(()),
    }
}

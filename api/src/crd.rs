//! Custom resources: from a structural schema to [`Types`], and what is right and wrong with a value.

use crate::field::ErrorList;
use crate::schema::Types;
use serde_json::Value;

/// The types of a custom resource from the `openAPIV3Schema` of one version; the root is called `name`.
pub fn types(_name: &str, _schema: &Value, _preserve_unknown: bool) -> Types {
    Types::default()
}

/// Fills in the defaults that a structural schema declares.
pub fn apply_defaults(_schema: &Value, _object: &mut Value) {}

/// What is wrong with a custom object by its schema.
pub fn validate(_schema: &Value, _object: &Value, _old: Option<&Value>) -> ErrorList {
    ErrorList::new()
}

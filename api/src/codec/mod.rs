//! Between bytes and object trees: JSON, YAML and protobuf.

pub mod json;
pub mod protobuf;
pub mod yaml;

use thiserror::Error;

/// How deep objects may nest.
pub const MAX_DEPTH: usize = 127;

/// Why bytes aren't an object.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[error("{0}")]
pub struct ParseError(pub String);

//! The built-in types, read from the table of facts in this crate.

use super::types::{Types, TypesBuilder};
use std::sync::LazyLock;

static BUILTIN: LazyLock<Types> = LazyLock::new(|| TypesBuilder::default().build());

/// The types of all built-in kinds. They are read on first use.
pub fn builtin() -> &'static Types {
    &BUILTIN
}

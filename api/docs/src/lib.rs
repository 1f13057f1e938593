//! Descriptions of the built-in kinds and their fields, for OpenAPI and `explain`.

use rutter_api::openapi::{Docs, NoDocs};

/// The descriptions. They are unpacked on first use.
pub fn docs() -> &'static dyn Docs {
    &NoDocs
}

//! OpenAPI documents made from the scheme and the schema.

use crate::meta::GroupVersion;
use crate::resource::Scheme;
use crate::schema::Types;
use serde_json::Value;

/// Where descriptions come from.
pub trait Docs: Send + Sync {
    /// The description of a type, or of one of its fields.
    fn describe(&self, type_name: &str, field: Option<&str>) -> Option<&str>;
}

/// No descriptions.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoDocs;

impl Docs for NoDocs {
    fn describe(&self, _type_name: &str, _field: Option<&str>) -> Option<&str> {
        None
    }
}

/// The OpenAPI v3 document of one group version (`/openapi/v3/apis/apps/v1`).
pub fn v3(_scheme: &Scheme, _types: &Types, _group_version: &GroupVersion, _docs: &dyn Docs) -> Value {
    Value::Null
}

/// The OpenAPI v2 document of everything served (`/openapi/v2`).
pub fn v2(_scheme: &Scheme, _types: &Types, _docs: &dyn Docs) -> Value {
    Value::Null
}

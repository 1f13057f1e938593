//! A write looked at in another version than the one it was made in.

use crate::Attributes;
use async_trait::async_trait;
use rutter_api::object::ObjectExt;
use rutter_api::schema::{self, DecodeError, FieldValidation, Types};
use rutter_api::{GroupVersionKind, Resource, Scheme, StatusError, Value};
use std::fmt;

/// What is served when a write comes, and the way between versions.
#[async_trait]
pub trait Versions: Send + Sync {
    /// All resources.
    fn scheme(&self) -> &Scheme;

    /// The types in which a resource's schema is found.
    fn types(&self, resource: &Resource) -> &Types;

    /// Turns an object of one version of a resource into another one.
    async fn convert(&self, from: &Resource, to: &Resource, object: Value) -> Result<Value, StatusError>;
}

impl fmt::Debug for dyn Versions + '_ {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Versions(..)")
    }
}

impl Attributes<'_> {
    /// The kind of what is written, when the write is to `resource`: a subresource may have one of its own.
    pub fn kind_in(&self, resource: &Resource) -> GroupVersionKind {
        let sub = resource.subresource(self.subresource);
        sub.and_then(|sub| sub.kind.clone())
            .unwrap_or_else(|| resource.gvk())
    }

    /// Whether what is written is of the resource's own kind, and not a subresource's such as Scale or Eviction.
    pub fn is_own_kind(&self) -> bool {
        let sub = self.resource.subresource(self.subresource);
        sub.is_none_or(|sub| sub.kind.is_none())
    }

    /// Brings an object that somebody changed freely, in the version of `resource`, into the form of its schema (unknown fields go)
    /// and fills in its defaults.
    pub fn reshape(&self, resource: &Resource, object: Value) -> Result<Value, DecodeError> {
        let kind = self.kind_in(resource);
        let mut shaped = if self.is_own_kind() {
            let types = self.versions.types(resource);
            let decoded = schema::decode(types, &resource.schema, object, FieldValidation::Ignore)?;
            let mut object = decoded.value;
            resource.strategy.default_object(&mut object);
            object
        } else {
            let types = schema::builtin();
            match types.name_of_kind(&kind.group, &kind.version, &kind.kind) {
                Some(name) => schema::decode(types, name, object, FieldValidation::Ignore)?.value,
                None => object,
            }
        };
        shaped.set("apiVersion", kind.api_version());
        shaped.set("kind", kind.kind);
        Ok(shaped)
    }
}

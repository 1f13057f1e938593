//! OpenAPI documents made from the scheme and the schema.
//!
//! They say what clients use: the types with their merge rules and kinds (`explain`, apply, validation), and for each
//! path the operations with their parameters.

mod paths;
pub mod protobuf;
mod schemas;

use crate::meta::GroupVersion;
use crate::resource::{Resource, Scheme};
use crate::schema::Types;
use schemas::{Dialect, Schemas};
use serde_json::{Map, Value, json};

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

/// The schema of a custom resource: its `openAPIV3Schema`; None for built-in resources.
pub type CustomSchema<'a> = dyn Fn(&Resource) -> Option<Value> + 'a;

/// `/openapi/v3`: where the documents of the group versions are. `hash` makes a text that changes when the document
/// does.
pub fn v3_index(scheme: &Scheme, hash: impl Fn(&GroupVersion) -> String) -> Value {
    let paths: Map<String, Value> = scheme
        .group_versions()
        .map(|version| {
            let path = paths::root(version);
            let path = path.trim_start_matches('/').to_owned();
            let url = format!("/openapi/v3/{path}?hash={}", hash(version));
            (path, json!({"serverRelativeURL": url}))
        })
        .collect();
    json!({"paths": paths})
}

/// The OpenAPI v3 document of one group version (`/openapi/v3/apis/apps/v1`).
pub fn v3(scheme: &Scheme, types: &Types, group_version: &GroupVersion, docs: &dyn Docs) -> Value {
    v3_with(scheme, types, group_version, docs, &|_| None)
}

/// As [`v3`], with custom resources.
pub fn v3_with(
    scheme: &Scheme,
    types: &Types,
    group_version: &GroupVersion,
    docs: &dyn Docs,
    custom: &CustomSchema<'_>,
) -> Value {
    let mut schemas = Schemas::new(types, docs, Dialect::V3);
    let mut paths = Map::new();
    for resource in scheme.resources(group_version) {
        let name = schemas.add_resource(resource, custom(resource));
        paths::add(resource, &name, &mut schemas, &mut paths);
    }
    json!({
        "openapi": "3.0.0",
        "info": info(),
        "paths": paths,
        "components": {"schemas": schemas.finish(), "securitySchemes": {"BearerToken": bearer()}},
    })
}

/// The OpenAPI v2 document of everything served (`/openapi/v2`).
pub fn v2(scheme: &Scheme, types: &Types, docs: &dyn Docs) -> Value {
    v2_with(scheme, types, docs, &|_| None)
}

/// As [`v2`], with custom resources.
pub fn v2_with(scheme: &Scheme, types: &Types, docs: &dyn Docs, custom: &CustomSchema<'_>) -> Value {
    let mut schemas = Schemas::new(types, docs, Dialect::V2);
    let mut paths = Map::new();
    for resource in scheme.iter() {
        let name = schemas.add_resource(resource, custom(resource));
        paths::add(resource, &name, &mut schemas, &mut paths);
    }
    json!({
        "swagger": "2.0",
        "info": info(),
        "paths": paths,
        "definitions": schemas.finish(),
        "securityDefinitions": {"BearerToken": bearer()},
        "security": [{"BearerToken": []}],
    })
}

fn info() -> Value {
    json!({"title": "Kubernetes", "version": "v1.36.0"})
}

fn bearer() -> Value {
    json!({"description": "Bearer Token authentication", "in": "header", "name": "authorization", "type": "apiKey"})
}

#[cfg(test)]
mod tests;

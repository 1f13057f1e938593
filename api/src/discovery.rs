//! Discovery documents: what is served, for `kubectl api-resources` and every client's REST mapper.

use crate::meta::GroupVersion;
use crate::resource::Scheme;
use serde_json::Value;

/// `/api`: `APIVersions`.
pub fn api_versions(_server_address: &str) -> Value {
    Value::Null
}

/// `/apis`: `APIGroupList`.
pub fn group_list(_scheme: &Scheme) -> Value {
    Value::Null
}

/// `/apis/<group>`: `APIGroup`.
pub fn group(_scheme: &Scheme, _group: &str) -> Option<Value> {
    None
}

/// `/api/v1` and `/apis/<group>/<version>`: `APIResourceList`.
pub fn resource_list(_scheme: &Scheme, _group_version: &GroupVersion) -> Option<Value> {
    None
}

/// Aggregated discovery of `/api` (`core`) or `/apis`: `APIGroupDiscoveryList` of `apidiscovery.k8s.io/v2`.
pub fn aggregated(_scheme: &Scheme, _core: bool) -> Value {
    Value::Null
}
